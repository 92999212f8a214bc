"""The file system: durable writes, locks, and reading files that SQLite has open."""
