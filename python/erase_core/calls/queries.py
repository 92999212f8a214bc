"""The queries of one call: one query or several, their names in errors, and the answering of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from erase_core.checks import is_unordered
from erase_core.errors import EraseError, ParameterError
from erase_core.progress import bar

__all__ = ["Queries"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of one call.

    Parameters
    ----------
    texts : list of str
        Not checked yet.
    are_several : bool
        Whether the caller gave a list, so that an error has to name the place of the query in it.
    """

    texts: list[Any]
    are_several: bool

    @classmethod
    def one(cls, query: object) -> Queries:
        """Return a single query, of a method that takes one."""
        return cls([query], are_several=False)

    @classmethod
    def many(cls, queries: object) -> Queries:
        """Return the queries of a list, of a method that takes several.

        Raises
        ------
        ParameterError
            It is not a list, or has no order.
        """
        if isinstance(queries, (str, bytes)) or not isinstance(queries, Iterable):
            raise ParameterError(
                f"queries must be a list of texts, got {type(queries).__name__}. Give a list, even for one query."
            )
        if is_unordered(queries):
            raise ParameterError(
                f"queries must have an order, got a {type(queries).__name__}, which has none. Give a list."
            )
        return cls(list(queries), are_several=True)

    def __len__(self) -> int:
        return len(self.texts)

    @contextmanager
    def at(self, place: int) -> Iterator[None]:
        """Name the query at a place in an error that is raised within this context."""
        try:
            yield
        except EraseError as error:
            if self.are_several:
                error.args = (f"queries[{place}]: {error}", *error.args[1:])
            raise
        except Exception as error:  # of a model of the caller's, whose message may have any form
            if self.are_several:
                error.add_note(f"The query is queries[{place}].")
            raise

    def each(self, call: Callable[[int], T], what: str, *, parallel: int, progress: bool) -> list[T]:
        """Return the results of a function for the place of each query, in their order.

        Parameters
        ----------
        call : callable
        what : str
            The text beside the progress bar.
        parallel : int
            Number of calls at a time. If one fails, those that run are waited for, and no other is begun.
        progress : bool
            Whether to show the bar.
        """
        with bar(what, len(self), shown=progress) as advance:
            if min(parallel, len(self)) > 1:
                return self._each_in_threads(call, advance, parallel)
            results = []
            for place in range(len(self)):
                with self.at(place):
                    results.append(call(place))
                advance(1)
            return results

    def _each_in_threads(self, call: Callable[[int], T], advance: Callable[[int], object], parallel: int) -> list[T]:
        with ThreadPoolExecutor(min(parallel, len(self)), "erase-query") as pool:
            calls: list[Future[T]] = []
            try:
                for place in range(len(self)):
                    calls.append(pool.submit(copy_context().run, call, place))
                    calls[-1].add_done_callback(lambda _: advance(1))
                wait(calls, return_when=FIRST_EXCEPTION)
            finally:  # after an error or Ctrl-C; otherwise all are done
                pool.shutdown(cancel_futures=True)
        for place, done in enumerate(calls):
            if not done.cancelled():
                with self.at(place):
                    done.result()
        return [done.result() for done in calls]
