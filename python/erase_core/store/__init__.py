"""The store: a folder with a SQLite file of all examples, and a snapshot of the model derived from them."""
