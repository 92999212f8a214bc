"""Searches any folder for texts and vectors that should be gone: `scan_folder`, and the command `erase scan`.

A folder is walked (folder.py). The kind of each file is known by its first bytes (formats.py). Each file is searched
byte by byte (searching.py), and what is compressed or packed in it is unpacked in memory: archives (containers.py),
columns (columns.py), SQLite (databases.py). Nothing is written anywhere.
"""
