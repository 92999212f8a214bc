"""`AsyncErase`: the methods of an `Erase` as coroutines, which run in a thread."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from erase_core.embedding.sentence import Embedder
from erase_core.erase import Erase
from erase_core.errors import ParameterError, context_of_user
from erase_core.llm import LLM
from erase_core.pickling import Recipe
from erase_core.receipts.receipt import ReceiptRef
from erase_core.settings import Settings

__all__ = ["AsyncErase"]

P = ParamSpec("P")
T = TypeVar("T")


def _twin(method: Callable[Concatenate[Erase, P], T]) -> Callable[Concatenate[AsyncErase, P], Coroutine[Any, Any, T]]:
    """Return the coroutine function that runs a method of `Erase` in the thread."""
    name = method.__name__

    @wraps(method)
    def twin(self: AsyncErase, /, *args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._run(lambda: getattr(self.erase, name)(*args, **options))

    twin.__module__, twin.__qualname__ = __name__, f"AsyncErase.{name}"
    twin.__doc__ = f"Do what `Erase.{name}` does, with the same parameters, result, errors and warnings."
    return twin


class AsyncErase:
    """The methods of an `Erase` as coroutines, for programs with an event loop of asyncio.

    Each call runs in a thread that belongs to this object, so the event loop is never blocked. Calls run one at a time,
    in the order in which they were begun, as the lock of the store requires. Those that wait occupy no thread. To have
    several requests at a model server at a time, use `ask_many` or `choose_many` with `parallel`.

    The methods have the names, parameters, results, errors and warnings of those of `Erase`. The properties
    `newest_receipt` and `id_type` read the store, and `embedder` and `llm` may load a model, so they are methods here.
    Methods that write are included: a service that answers also gets requests to ingest and to forget, and they have to
    wait for their turn like any other call. A call of `warm` may take long, and all others wait for its end: make it
    before there are any, or with an `Erase` of its own.

    A cancelled call that waits for its turn is not made. A cancelled call that runs goes on in its thread to its end,
    and the next one waits for it. Nothing is lost but its result, or its error. After a cancelled `forget` or `ingest`,
    the store shows whether it was done, and it can be repeated with ``on_missing="skip"`` or ``on_duplicate="skip"``.

    A copy has a copy of the `Erase`, and a thread of its own; so has an object that is unpickled.

    Parameters
    ----------
    erase : Erase
        An open store. Opening one reads files, so in an event loop open it in a thread:
        ``AsyncErase(await asyncio.to_thread(Erase.open, path))``.

    Raises
    ------
    ParameterError
        `erase` is not an `Erase`.

    Examples
    --------
    >>> import asyncio, tempfile
    >>> from erase_core import AsyncErase, Erase
    >>> async def count(path):
    ...     async with AsyncErase(Erase.create(path)) as erase:
    ...         return (await erase.status()).n_examples
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(count(folder))
    0
    """

    def __init__(self, erase: Erase) -> None:
        if not isinstance(erase, Erase):
            raise ParameterError(
                f"erase must be an open store, got {type(erase).__name__}. Give AsyncErase(Erase.open(path))."
            )
        self.erase = erase
        self._thread = _thread()

    def __copy__(self) -> Self:
        return type(self)(copy.copy(self.erase))

    def __reduce__(self) -> Recipe:
        return type(self), (self.erase,)

    # ---- writing ----
    ingest = _twin(Erase.ingest)
    forget = _twin(Erase.forget)
    rekey = _twin(Erase.rekey)
    check_may_forget = _twin(Erase.check_may_forget)

    # ---- reading ----
    demonstrations = _twin(Erase.demonstrations)
    demonstrations_many = _twin(Erase.demonstrations_many)
    route = _twin(Erase.route)
    prompt_with_route = _twin(Erase.prompt_with_route)
    prompt = _twin(Erase.prompt)
    prompt_many = _twin(Erase.prompt_many)
    ask = _twin(Erase.ask)
    ask_many = _twin(Erase.ask_many)
    choose = _twin(Erase.choose)
    choose_many = _twin(Erase.choose_many)
    warm = _twin(Erase.warm)
    status = _twin(Erase.status)
    examples = _twin(Erase.examples)
    export = _twin(Erase.export)
    refresh = _twin(Erase.refresh)

    @property
    def settings(self) -> Settings:
        """The settings with which the store was created."""
        return self.erase.settings

    def id_type(self) -> Coroutine[Any, Any, type[int] | type[str] | None]:
        """Return `Erase.id_type`."""
        return self._run(lambda: self.erase.id_type)

    def embedder(self) -> Coroutine[Any, Any, Embedder]:
        """Return `Erase.embedder`."""
        return self._run(lambda: self.erase.embedder)

    def llm(self) -> Coroutine[Any, Any, LLM]:
        """Return `Erase.llm`."""
        return self._run(lambda: self.erase.llm)

    def __repr__(self) -> str:
        return f"<AsyncErase of {self.erase!r}>"

    # ---- proof ----
    verify = _twin(Erase.verify)
    receipts = _twin(Erase.receipts)

    def newest_receipt(self) -> Coroutine[Any, Any, ReceiptRef]:
        """Return `Erase.newest_receipt`."""
        return self._run(lambda: self.erase.newest_receipt)

    # ---- closing ----
    async def close(self) -> None:
        """Close the store when the calls before are done, and end the thread. See `Erase.close`."""
        try:
            await self._run(self.erase.close)
        finally:
            # A later call begins another thread, where it finds the store closed.
            thread, self._thread = self._thread, _thread()
            thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _run(self, call: Callable[[], T]) -> Coroutine[Any, Any, T]:
        # Not in a coroutine, which may begin in the event loop: a warning is to name the line that makes the call.
        return self._in_thread(context_of_user(), call)

    async def _in_thread(self, context: Context, call: Callable[[], T]) -> T:
        import asyncio  # takes long to import, and is there if anyone awaits this

        return await asyncio.get_running_loop().run_in_executor(self._thread, context.run, call)


def _thread() -> ThreadPoolExecutor:
    """Return an executor of one thread, which begins with the first call."""
    return ThreadPoolExecutor(1, "erase-async")
