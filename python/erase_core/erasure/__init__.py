"""What may be added and what is removed: admission, requests, removals, recovery."""
