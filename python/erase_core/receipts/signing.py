"""Ed25519 signatures of receipts, by the package cryptography. Keys are the caller's: read, used, never stored."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from os import PathLike
from pathlib import Path
from string import hexdigits
from typing import Any

from erase_core import checks
from erase_core.errors import MissingPackageError, NotPicklableError, ParameterError, os_reason
from erase_core.pickling import Recipe, Shared, make_again

__all__ = ["Signer", "as_public_keys", "as_signer", "is_signed_by", "public_key"]


class Signer(Shared):
    """A private key.

    It is pickled as the name of its file, never the key itself; with a password not at all.

    Parameters
    ----------
    key : path
        A file with an Ed25519 private key in PEM form, as ``openssl genpkey -algorithm ed25519`` writes it.
    password : bytes or None, default=None
        Of a key that is encrypted.

    Raises
    ------
    ParameterError
        The file holds no such key.
    MissingPackageError
        The package cryptography is not installed.
    """

    def __init__(self, key: str | PathLike[str], password: bytes | None = None) -> None:
        name = os.fspath(checks.path("key", key))
        content = _read(name)
        try:
            loaded = _package("serialization").load_pem_private_key(content, password)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{name} holds no private key in PEM form that can be read: {error}") from None
        self._key = _of_kind(loaded, "Ed25519PrivateKey", name)
        self.public_key = _hex(self._key.public_key())
        self._file, self._has_password = os.path.abspath(name), password is not None

    def __reduce__(self) -> Recipe:
        if self._has_password:
            raise NotPicklableError(
                "a Signer with a password is not pickled, since the password would be in the pickle; make it in the "
                "other process"
            )
        return make_again, (type(self), {"key": self._file}, "public_key", self.public_key)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in hex."""
        return str(self._key.sign(message).hex())


def as_signer(key: str | PathLike[str] | Signer | None) -> Signer | None:
    """Return what signs: nothing for None."""
    return key if key is None or isinstance(key, Signer) else Signer(key)


def as_public_keys(given: str | PathLike[str] | Iterable[str | PathLike[str]]) -> frozenset[str]:
    """Return one or several public keys in hex. See `public_key`."""
    several = [given] if isinstance(given, (str, PathLike)) else given
    if not isinstance(several, Iterable) or isinstance(several, bytes) or "" in several:
        raise ParameterError(f"public_keys must be keys in hex or files, got {given!r}")
    return frozenset(public_key(key) for key in several)


def public_key(key: str | PathLike[str]) -> str:
    """Return a public key in hex.

    Parameters
    ----------
    key : str or path
        The key itself as 64 hexadecimal digits, or a file with it in PEM form (``openssl pkey -pubout``).

    Raises
    ------
    ParameterError
        It is neither.
    """
    name = os.fspath(checks.path("public_keys", key))
    if len(name) == 64 and all(digit in hexdigits for digit in name):
        return name.lower()
    content = _read(name)
    try:
        loaded = _package("serialization").load_pem_public_key(content)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} holds no public key in PEM form: {error}") from None
    return _hex(_of_kind(loaded, "Ed25519PublicKey", name))


def is_signed_by(key: str, signature: str, message: bytes) -> bool:
    """Whether a signature, in hex, is that of a message by the owner of a public key, in hex."""
    ed25519 = _package("asymmetric.ed25519")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
    except (ValueError, import_module("cryptography.exceptions").InvalidSignature):
        return False
    return True


def _package(name: str) -> Any:
    try:
        return import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError as error:
        raise MissingPackageError(
            "signatures need the package cryptography; install it with `pip install cryptography`"
        ) from error


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ParameterError(f"{name}: {os_reason(error)}") from error


def _of_kind(key: Any, kind: str, name: str) -> Any:
    if not isinstance(key, getattr(_package("asymmetric.ed25519"), kind)):
        raise ParameterError(f"{name} holds a key of another kind; receipts are signed with Ed25519")
    return key


def _hex(key: Any) -> str:
    serialization = _package("serialization")
    return str(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex())
