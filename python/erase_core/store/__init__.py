"""The store: a folder with a SQLite file that is the truth about examples, and the model derived from it."""
