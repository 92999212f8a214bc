"""A call of `rekey`: another key of the caller's."""

from __future__ import annotations

from erase_core.calls.open_store import OpenStore
from erase_core.errors import ScrubError, UncertainError
from erase_core.store.user_key import KeySource, user_key

__all__ = ["rekey_store"]


def rekey_store(opened: OpenStore, source: KeySource | None) -> None:
    """Wrap the keys of a store's examples with another key. See `Erase.rekey`."""
    wrapping = user_key("key", source)
    try:
        with opened.removals.exclusive():
            opened.store.rewrap(wrapping)
    except (ScrubError, UncertainError):
        opened.close()
        raise
    opened.close()
