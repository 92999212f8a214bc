"""lm-evaluation-harness: a few-shot sampler that takes the demonstrations of each document from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.examples.example import FIELDS
from erase_core.integrations import checked, extra, keys_of
from erase_core.selection import SELECTORS

with extra("lm-eval"):
    from lm_eval.api.samplers import ContextSampler

__all__ = ["EraseSampler", "sampler_of"]

Document = dict[str, Any]
# The subject is not shown.
SHOWN = tuple(name for name in FIELDS if name != "subject")


class EraseSampler(ContextSampler):  # type: ignore[misc]  # lm_eval has no type hints
    """A few-shot sampler of lm-evaluation-harness with the demonstrations of a store. It keeps none of them.

    `sampler_of` makes a class of it for a store, since the harness creates the sampler of a task itself.
    """

    erase: Erase
    query: str | Callable[[Document], str]
    keys: Mapping[str, str]

    def __init__(self, df: Sequence[Document] | None = None, *, rnd: int | None = None, **options: Any) -> None:
        # The documents of the few-shot split are not used.
        super().__init__(None, rnd=rnd, **options)

    def sample(
        self, n: int, eval_doc: Document | None = None, df: Sequence[Document] | None = None, **options: Any
    ) -> list[Document]:
        """Return the demonstrations for a document, as documents with the keys `id`, `input`, `output`, `rationale`.

        An example with the very question of the document is left out, because the prompt would show the answer.

        Raises
        ------
        ParameterError
            `n` is not the store's number of demonstrations, or the demonstrations depend on the document and there is
            none, or it has no question.
        EraseError
            As for `Erase.demonstrations`.
        """
        if n == 0:
            return []
        n_shots = self.erase.settings.n_shots
        if n != n_shots:
            raise ParameterError(f"num_fewshot is {n}, but the store shows {n_shots}. Give num_fewshot={n_shots}.")
        question = None if eval_doc is None else self._question(eval_doc)
        if question is None and SELECTORS[self.erase.settings.strategy].per_query:
            raise ParameterError(
                "the demonstrations depend on the document, but the harness gave none. Give fewshot_split the name of "
                "the split that is evaluated."
            )
        shown = [each for each in self.erase.demonstrations(question) if each.input != question]
        return [{key: getattr(each, name) for name, key in self.keys.items()} for each in shown]

    def _question(self, document: Document) -> str:
        if callable(self.query):
            return self.query(document)
        if self.query not in document:
            raise ParameterError(f"documents have no {self.query!r}, only {', '.join(document)}. Give query=.")
        question: str = document[self.query]
        return question


def sampler_of(
    erase: Erase,
    *,
    query: str | Callable[[Document], str] | None = None,
    fields: Mapping[str, str] | None = None,
) -> type[EraseSampler]:
    """Return the sampler of a store, for `sampler` in the `fewshot_config` of a task.

    Parameters
    ----------
    erase : Erase
        An open store.
    query : str, callable or None, default=None
        The key of a document's question, or a function that returns the question of a document. None: the key of
        `input`.
    fields : mapping of str to str or None, default=None
        Keys of the demonstrations, if the templates of the task need others than the names of the fields:
        ``{"input": "question", "output": "answer"}``.

    Raises
    ------
    MissingPackageError
        lm-eval is not installed.
    ParameterError
        `erase` is not an open store, `fields` has a name that is not shown, or two fields have one key.
    """
    keys = keys_of(fields, SHOWN)
    asked = keys["input"] if query is None else query
    # A function in a class would become a method.
    asked = staticmethod(asked) if callable(asked) else asked
    return type("EraseSampler", (EraseSampler,), {"erase": checked(erase), "query": asked, "keys": keys})
