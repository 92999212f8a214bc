"""What queries of a store return, and what every query needs."""

from __future__ import annotations

from typing import NamedTuple

from erase_core.commitments import Tokens
from erase_core.store.constants import Constants
from erase_core.store.database import Database
from erase_core.store.key_file import KeyFile
from erase_core.store.sealing import Sealing

__all__ = ["Changes", "Row", "StoreFiles", "Unfinished"]


class StoreFiles(NamedTuple):
    """What every query of a store needs.

    Parameters
    ----------
    db : Database
    keys : KeyFile
    constants : Constants
    sealing : Sealing
    tokens : Tokens
    """

    db: Database
    keys: KeyFile
    constants: Constants
    sealing: Sealing
    tokens: Tokens


class Row(NamedTuple):
    """An example as it is found by its id.

    Parameters
    ----------
    slot : int
    id_token : bytes
    likeness, subject : bytes or None
        Tokens of the subject.
    hash : bytes
    texts : bytes
        Sealed.
    """

    slot: int
    id_token: bytes
    likeness: bytes | None
    subject: bytes | None
    hash: bytes
    texts: bytes


class Changes(NamedTuple):
    """What changed between two generations.

    Parameters
    ----------
    gone : list of int
        Slots of examples that were removed.
    came : list of range
        Slots that were given to new examples. Some may have gone again.
    """

    gone: list[int]
    came: list[range]


class Unfinished(NamedTuple):
    """A removal whose keys may not be destroyed, or whose receipt may not be published.

    Parameters
    ----------
    generation : int
    slots : list of int
        The slots of the keys to destroy.
    number : int or None
        Number of the receipt; None if there is none to publish.
    receipt : bytes or None
    """

    generation: int
    slots: list[int]
    number: int | None
    receipt: bytes | None
