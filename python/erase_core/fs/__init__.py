"""Files: durable writes, reading a file that SQLite has open, locks."""
