"""The tables, identification and options of a store's SQLite file."""

FILE = "examples.sqlite"
APPLICATION_ID = 0x45524153
SCHEMA_VERSION = 2
# The first version with strict tables.
MIN_SQLITE = (3, 37)
# The primary key of examples is a number, so that no page of a tree repeats an id as a separator of its children. The
# table of what was forgotten is in the order of its keyed hashes, which does not reveal the order of removals.
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE examples (
    number INTEGER PRIMARY KEY,
    id ANY NOT NULL UNIQUE,
    input TEXT NOT NULL,
    output TEXT NOT NULL,
    rationale TEXT,
    subject TEXT,
    salt BLOB NOT NULL,
    hash BLOB NOT NULL,
    vector BLOB NOT NULL
) STRICT;
CREATE INDEX examples_by_subject ON examples (subject) WHERE subject IS NOT NULL;
CREATE TABLE forgotten (token BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE pending (number INTEGER PRIMARY KEY, receipt BLOB NOT NULL) STRICT;
"""
PRAGMAS = """
PRAGMA secure_delete = ON;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
"""
