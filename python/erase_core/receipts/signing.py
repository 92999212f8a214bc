"""Ed25519 signatures of receipts, with the package cryptography. Keys belong to the caller and are never stored."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from os import PathLike
from pathlib import Path
from string import hexdigits
from typing import Any

from erase_core import checks
from erase_core.errors import NotPicklableError, ParameterError, os_reason
from erase_core.pickling import Recipe, Shared, make_again

__all__ = ["Signer", "as_public_keys", "as_signer", "is_signed_by", "public_key"]

PUBLIC_KEYS = "public_keys must be keys of 64 hexadecimal digits or PEM files"


class Signer(Shared):
    """A private key that signs receipts.

    A pickle contains the path of the key's file, never the key itself. A signer with a password cannot be pickled.

    Parameters
    ----------
    key : path
        A file with an Ed25519 private key in PEM form, as ``openssl genpkey -algorithm ed25519`` writes it.
    password : bytes or None, default=None
        Password of an encrypted key.

    Raises
    ------
    ParameterError
        The file cannot be read, or does not contain such a key.
    """

    def __init__(self, key: str | PathLike[str], password: bytes | None = None) -> None:
        if "-----BEGIN" in str(key):  # an error would show it
            raise ParameterError(
                "key must be a file, got the text of a key. Write it to a file that only you can read."
            )
        name = os.fspath(checks.path("key", key))
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise ParameterError(f"{name}: {os_reason(error)}") from error
        try:
            loaded = _package("serialization").load_pem_private_key(content, password)
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"{name} does not contain a private key in PEM form that can be read: {error}"
            ) from None
        self._key = _of_kind(loaded, "Ed25519PrivateKey", name)
        self.public_key = _hex(self._key.public_key())
        self._file, self._has_password = os.path.abspath(name), password is not None

    def __reduce__(self) -> Recipe:
        if self._has_password:
            raise NotPicklableError(
                "a Signer with a password cannot be pickled, since the pickle would contain the password. Make the "
                "Signer in the other process."
            )
        return make_again, (type(self), {"key": self._file}, "public_key", self.public_key)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in hex."""
        return str(self._key.sign(message).hex())


def as_signer(key: str | PathLike[str] | Signer | None) -> Signer | None:
    """Return a signer for a key file; a signer or None is returned as it is."""
    return key if key is None or isinstance(key, Signer) else Signer(checks.path("signing_key", key))


def as_public_keys(given: str | PathLike[str] | Iterable[str | PathLike[str]]) -> frozenset[str]:
    """Return one public key, or an iterable of them, in hex. See `public_key`."""
    several = [given] if isinstance(given, (str, PathLike)) else given
    if not isinstance(several, Iterable) or isinstance(several, bytes) or "" in several:
        raise ParameterError(f"{PUBLIC_KEYS}, got {given!r}")
    return frozenset(public_key(key) for key in several)


def public_key(key: str | PathLike[str]) -> str:
    """Return a public key in hex.

    Parameters
    ----------
    key : str or path
        The key as 64 hexadecimal digits, or a file with the key in PEM form (``openssl pkey -pubout``).

    Raises
    ------
    ParameterError
        `key` is neither.
    """
    if not isinstance(key, (str, PathLike)):
        raise ParameterError(f"{PUBLIC_KEYS}, got {key!r}")
    name = os.fspath(checks.path("public_keys", key))
    if len(name) == 64 and all(digit in hexdigits for digit in name):
        return name.lower()
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{PUBLIC_KEYS}, got {name!r}, which cannot be read as a file: {os_reason(error)}"
        ) from error
    try:
        loaded = _package("serialization").load_pem_public_key(content)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} does not contain a public key in PEM form: {error}") from None
    return _hex(_of_kind(loaded, "Ed25519PublicKey", name))


def is_signed_by(key: str, signature: str, message: bytes) -> bool:
    """Whether a signature of a message was made with the private key for a public key. Signature and key are in hex."""
    ed25519 = _package("asymmetric.ed25519")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
    except (ValueError, import_module("cryptography.exceptions").InvalidSignature):
        return False
    return True


def _package(name: str) -> Any:
    # Imported when it is first needed, because it takes long.
    return import_module(f"cryptography.hazmat.primitives.{name}")


def _of_kind(key: Any, kind: str, name: str) -> Any:
    if not isinstance(key, getattr(_package("asymmetric.ed25519"), kind)):
        raise ParameterError(f"{name} contains a key of another type. Give an Ed25519 key.")
    return key


def _hex(key: Any) -> str:
    serialization = _package("serialization")
    return str(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex())
