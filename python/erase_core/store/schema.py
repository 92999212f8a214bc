"""The tables, identification and options of a store's SQLite file."""

FILE = "examples.sqlite"
APPLICATION_ID = 0x45524153
SCHEMA_VERSION = 3
# Small, since a removal changes a few bytes of each of a dozen pages, and writes these pages to the log as a whole.
PAGE_SIZE = 2048
# The first version with strict tables.
MIN_SQLITE = (3, 37)
# An example's texts and vector are sealed (sealing.py), and its id and subject are tokens. So no page, wherever SQLite
# leaves a copy of it, shows an example whose key is destroyed. The vector comes first, because a fit reads it alone.
# `twin` is a token of the vector of an input that the embedding model does not read to its end.
# The table of what was forgotten is in the order of its tokens, which does not reveal the order of removals.
SCHEMA = """
CREATE TABLE constants (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE state (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    generation INTEGER NOT NULL,
    n_examples INTEGER NOT NULL,
    n_subjects INTEGER NOT NULL,
    next_slot INTEGER NOT NULL,
    model TEXT NOT NULL,
    model_generation INTEGER NOT NULL,
    commitment BLOB NOT NULL,
    forgotten_commitment BLOB NOT NULL,
    head INTEGER NOT NULL,
    head_hash TEXT NOT NULL,
    head_key TEXT NOT NULL,
    head_is_current INTEGER NOT NULL
) STRICT;
CREATE TABLE examples (
    slot INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    likeness BLOB,
    subject BLOB,
    twin BLOB,
    hash BLOB NOT NULL,
    vector BLOB NOT NULL,
    texts BLOB NOT NULL
) STRICT;
CREATE INDEX examples_by_subject ON examples (likeness, subject) WHERE likeness IS NOT NULL;
CREATE INDEX examples_by_twin ON examples (twin) WHERE twin IS NOT NULL;
CREATE TABLE forgotten (token BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE changes (
    generation INTEGER PRIMARY KEY,
    gone BLOB NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL
) STRICT;
CREATE TABLE unfinished (
    generation INTEGER PRIMARY KEY,
    slots BLOB NOT NULL,
    number INTEGER,
    receipt BLOB
) STRICT;
"""
PRAGMAS = """
PRAGMA secure_delete = ON;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
"""
