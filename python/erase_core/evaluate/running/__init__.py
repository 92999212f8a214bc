"""A run: its cells, in which order they are measured, in which processes, and the folder they are kept in."""
