"""Creates and opens stores, and collects the arguments by which a copy or a pickle of an `Erase` opens one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

from erase_core import checks
from erase_core.backends import Access, Backends, as_embedder, as_given, identified
from erase_core.calls.open_store import OpenStore
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.errors import NotPicklableError, ParameterError
from erase_core.llm import LLM, ServerOptions
from erase_core.llm.address import Address
from erase_core.pickling import check_picklable
from erase_core.receipts.folder import ReceiptFolder
from erase_core.receipts.signing import Signer, as_public_keys, as_signer
from erase_core.settings import GivenSettings, Settings, is_name, name_of
from erase_core.store.constants import new_name
from erase_core.store.new_folder import check_vacant
from erase_core.store.store import Store
from erase_core.store.user_key import KeySource, user_key

__all__ = ["GivenKeys", "arguments_of", "create_new", "open_existing", "recipe_of"]


class GivenKeys(NamedTuple):
    """The keys as the caller gives them. See `Erase.open`."""

    signing_key: str | PathLike[str] | Signer | None
    public_keys: str | PathLike[str] | Iterable[str | PathLike[str]]
    key: KeySource | None = None

    def checked(self) -> tuple[Signer | None, frozenset[str]]:
        """Return the signer, and the public keys in hex."""
        return as_signer(self.signing_key), as_public_keys(self.public_keys)


def create_new(
    path: str | PathLike[str],
    given: GivenSettings,
    keys: GivenKeys,
    *,
    api_key: str | None,
    receipts: str | PathLike[str] | None,
    timeout: float,
) -> OpenStore:
    """Create a store. See `Erase.create`."""
    checks.supported("a store")
    folder, timeout = checks.path("path", path), checks.seconds("timeout", timeout)
    settings = Settings.of(given)
    if settings.base_url is not None:
        Address.of(settings.base_url)
    Access(api_key, given.get("server")).merged_with(settings)
    check_vacant(folder)
    signer, public_keys = keys.checked()
    wrapping = user_key("key", keys.key)
    embedder, llm = given.get("embedder"), given.get("llm")
    identity, embedding = identified(embedder)
    backends = Backends(settings, *identity, Access(api_key))
    if embedding is not None:
        backends.embed_by(embedding)
    backends.answer_by(None if is_name(llm) else cast("LLM | None", llm))
    backends.given_embedder = as_given("embedder", embedder)
    axes = None if settings.projection is not None else checks.axes(given.get("projection"), identity.dim)
    name = new_name()
    outside = None if receipts is None else ReceiptFolder.new(_outside(receipts, folder), name)
    try:
        place = None if outside is None else outside.path
        store = Store.create(folder, settings, *identity, axes, place, name, timeout, wrapping)
    except BaseException:
        if outside is not None:
            outside.give_up()
        raise
    return OpenStore(store, backends, StoreReceipts(store, None, signer, public_keys), keys.key)


def open_existing(
    path: str | PathLike[str],
    keys: GivenKeys,
    *,
    embedder: str | PathLike[str] | Embedder | None,
    llm: str | PathLike[str] | LLM | None,
    api_key: str | None,
    server: ServerOptions | Mapping[str, object] | None,
    receipts: str | PathLike[str] | None,
    timeout: float,
) -> OpenStore:
    """Open a store without recovering anything. See `Erase.open`, and recovering.py."""
    checks.supported("a store")
    name_of("embedder", embedder)
    name_of("llm", llm)
    signer, public_keys = keys.checked()
    timeout = checks.seconds("timeout", timeout)
    moved = None if receipts is None else checks.path("receipts", receipts).absolute()
    wrapping = user_key("key", keys.key)
    store = Store(checks.path("path", path), timeout, wrapping)
    try:
        constants = store.constants
        backends = Backends(constants.settings, constants.embedder, constants.dim, Access(api_key, server))
        backends.answer_by(llm)
        if embedder is not None:
            backends.embed_by(as_embedder(embedder))
            backends.given_embedder = as_given("embedder", embedder)
        return OpenStore(store, backends, StoreReceipts(store, moved, signer, public_keys), keys.key)
    except BaseException:
        store.close()
        raise


def arguments_of(opened: OpenStore, embedder: str | Embedder | None, llm: str | LLM | None) -> dict[str, Any]:
    """Return the arguments with which `Erase.open` makes a handle like this one.

    Raises
    ------
    StoreError
        The handle is closed.
    """
    with opened.lock, opened.store.reading():
        return {
            "embedder": embedder,
            "llm": llm,
            "receipts": opened.receipts.moved,
            "signing_key": opened.receipts.signer,
            "public_keys": sorted(opened.receipts.public_keys),
            "key": opened.key,
            "timeout": opened.store.timeout,
            "api_key": opened.backends.access.api_key,
            "server": opened.backends.access.server,
        }


def recipe_of(opened: OpenStore) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a store, and the arguments of `Erase.open` to keep in a pickle of the handle.

    Raises
    ------
    NotPicklableError
        A model cannot be pickled, or the pickle would contain a key.
    """
    backends = opened.backends
    check_picklable("embedder", backends.given_embedder)
    check_picklable("llm", backends.given_llm)
    check_picklable("key", opened.key)
    if isinstance(opened.key, bytes):
        raise NotPicklableError(
            "a store that was opened with key=bytes cannot be pickled: the pickle would contain the key. Give a file, "
            "an environment variable (env:NAME) or a function."
        )
    if backends.access.api_key:
        raise NotPicklableError(
            "a store that was opened with an api_key cannot be pickled: the pickle would contain the key. Open the "
            "store in the other process."
        )
    return opened.store.folder, arguments_of(opened, backends.given_embedder, backends.given_llm)


def _outside(receipts: str | PathLike[str], folder: Path) -> Path:
    path = checks.path("receipts", receipts)
    if path.resolve().is_relative_to(folder.resolve()):
        raise ParameterError(
            f"receipts must be a folder outside {folder}, got {path}. To keep the receipts in the store, leave it out."
        )
    return path
