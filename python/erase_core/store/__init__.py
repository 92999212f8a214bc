"""The store: a folder with a SQLite file of all examples, each sealed, and a file with their keys."""
