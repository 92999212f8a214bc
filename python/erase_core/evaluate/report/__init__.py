"""What a run found: tables, page and pictures, from the finished cells alone."""
