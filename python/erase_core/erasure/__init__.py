"""What comes in and what goes: admission, requests, removals."""
