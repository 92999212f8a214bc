"""LangChain: an example selector for `FewShotPromptTemplate` and `FewShotChatMessagePromptTemplate`."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from erase_core.async_erase import AsyncErase
from erase_core.erase import Erase
from erase_core.errors import ExampleError, ParameterError
from erase_core.examples.example import FIELDS, Example
from erase_core.integrations import checked, extra, keys_of
from erase_core.reports import ForgetReport, IngestReport
from erase_core.selection import SELECTORS

with extra("langchain"):
    from langchain_core.example_selectors import BaseExampleSelector

__all__ = ["EraseExampleSelector"]


class EraseExampleSelector(BaseExampleSelector):
    """The demonstrations of a store as LangChain's examples. It keeps none of them.

    An example is a dict with the keys `id`, `input`, `output` and `rationale`, which is empty if there is none. The
    subject is left out, so that no prompt template can show it.

    Parameters
    ----------
    erase : Erase
        An open store. Its settings say how many examples are selected, and how.
    query : str or None, default=None
        The input variable that is the question. None: the only one.
    fields : mapping of str to str or None, default=None
        Keys in LangChain's examples, if they differ from the names of the fields:
        ``{"input": "question", "output": "answer"}``.
    ignore_unknown : bool, default=False
        Whether an example to add may have other keys, which are then left out.

    Raises
    ------
    MissingPackageError
        langchain-core is not installed.
    ParameterError
        `erase` is not an open store, `fields` has a name that is not a field, or two fields have one key.
    """

    def __init__(
        self,
        erase: Erase,
        *,
        query: str | None = None,
        fields: Mapping[str, str] | None = None,
        ignore_unknown: bool = False,
    ) -> None:
        self.erase, self.query, self.ignore_unknown = checked(erase), query, ignore_unknown
        self._keys = keys_of(fields, FIELDS)
        self._async = AsyncErase(self.erase)

    def add_example(self, example: dict[str, Any]) -> IngestReport:
        """Ingest an example with the keys `input` and `output`, and perhaps `id`, `rationale` and `subject`.

        Raises
        ------
        ExampleError
            The example has an unknown key, or is not valid.
        EraseError
            As for `Erase.ingest`: the id is in the store already, or the example was forgotten earlier.
        """
        return self.erase.ingest([example], fields=self._columns(example))

    async def aadd_example(self, example: dict[str, Any]) -> IngestReport:
        """Do what `add_example` does, in a thread."""
        return await self._async.ingest([example], fields=self._columns(example))

    def select_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the demonstrations for a question, in the order in which they are to be shown.

        Raises
        ------
        ParameterError
            It is not clear which input variable is the question, or the question is not text, or blank.
        EraseError
            As for `Erase.demonstrations`.
        """
        return list(map(self._shown, self.erase.demonstrations(self._question(input_variables))))

    async def aselect_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Do what `select_examples` does, in a thread."""
        return list(map(self._shown, await self._async.demonstrations(self._question(input_variables))))

    def remove(
        self,
        ids: int | str | Iterable[int | str] | None = None,
        *,
        subject: str | Iterable[str] | None = None,
        **options: Any,
    ) -> ForgetReport:
        """Forget examples: see `Erase.forget`, which also has the options and the errors."""
        return self.erase.forget(ids, subject=subject, **options)

    def aremove(
        self,
        ids: int | str | Iterable[int | str] | None = None,
        *,
        subject: str | Iterable[str] | None = None,
        **options: Any,
    ) -> Coroutine[Any, Any, ForgetReport]:
        """Do what `remove` does, in a thread."""
        return self._async.forget(ids, subject=subject, **options)

    def _columns(self, example: Mapping[str, Any]) -> dict[str, str]:
        """Return the keys of an example's fields, having checked that it has no others."""
        if not isinstance(example, Mapping):
            raise ExampleError(f"an example must be a dict, got {type(example).__name__}")
        unknown = sorted(map(repr, example.keys() - set(self._keys.values())))
        if unknown and not self.ignore_unknown:
            raise ExampleError(
                f"the example has unknown keys: {', '.join(unknown)}. The keys are {', '.join(self._keys.values())}. "
                "Give fields= if they have other names, or ignore_unknown=True to leave others out."
            )
        return {name: key for name, key in self._keys.items() if key in example or name in {"input", "output"}}

    def _question(self, variables: Mapping[str, Any]) -> Any:
        names = ", ".join(sorted(map(repr, variables)))
        if self.query is not None and self.query not in variables:
            raise ParameterError(f"there is no input variable {self.query!r}. There is: {names or 'none'}.")
        if self.query is not None or len(variables) == 1:
            return variables[next(iter(variables)) if self.query is None else self.query]
        if SELECTORS[self.erase.settings.strategy].per_query:
            raise ParameterError(
                f"which input variable is the question? There are {names}. Give EraseExampleSelector(query=...)."
                if variables
                else "there is no question: give the prompt template input_variables with its name."
            )
        return None

    def _shown(self, example: Example) -> dict[str, Any]:
        shown = {name: getattr(example, name) for name in FIELDS if name != "subject"}
        return {self._keys[name]: "" if value is None else value for name, value in shown.items()}
