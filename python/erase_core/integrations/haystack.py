"""Haystack: a component that puts a store's demonstrations into a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from os import PathLike
from typing import Any

from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.integrations import checked, extra
from erase_core.llm.prompt import Prompt

with extra("haystack"):
    from haystack import component, default_from_dict, default_to_dict
    from haystack.dataclasses import ChatMessage, ChatRole, Document

__all__ = ["EraseDemonstrations"]

NAMED = ("embedder", "receipts", "public_keys", "key")
# Not an attribute of a component, which can be copied and pickled.
_opening = threading.Lock()


@component
class EraseDemonstrations:
    """A component that gives the demonstrations of a store for a question. It keeps none of them.

    Inputs: `query`, a text, or `messages`, a conversation whose last message of the user is the question, or both.

    Outputs: `messages`, what to send to a chat model: the conversation with the demonstrations as pairs of messages of
    user and assistant, after its system messages, or after the store's instruction if it has none. And `documents`, the
    demonstrations for a `PromptBuilder`: `content` is the input, and `meta` has `output` and `rationale`. The subject
    is left out.

    Saved with its pipeline it is the path of the store, and no text. Where it is loaded, it opens the store.

    Parameters
    ----------
    store : Erase or path
        An open store, or the folder of one, which is opened when the pipeline is warmed up.
    embedder, receipts, public_keys, key : str, or for `public_keys` a sequence of str
        See `Erase.open`. Only if `store` is a folder.

    Raises
    ------
    MissingPackageError
        haystack-ai is not installed.
    ParameterError
        `store` is open, but options to open it are given, or an option is not text.
    """

    def __init__(
        self,
        store: Erase | str | PathLike[str],
        *,
        embedder: str | None = None,
        receipts: str | None = None,
        public_keys: Sequence[str] = (),
        key: str | None = None,
    ) -> None:
        options = {"embedder": embedder, "receipts": receipts, "public_keys": list(public_keys), "key": key}
        self._options = {name: value for name, value in options.items() if value}
        self._store = store
        is_path = isinstance(store, (str, PathLike))
        if self._options and not is_path:
            raise ParameterError(
                f"{next(iter(self._options))} is only for the folder of a store. Give it to Erase.open."
            )
        _check_texts(self._options)
        self._erase = None if is_path else checked(store)

    def warm_up(self) -> None:
        """Open the store, if it is not open."""
        with _opening:  # pipelines may run it in several threads
            if self._erase is None:
                self._erase = Erase.open(self._store, **self._options)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the store, if this component has opened it. The next call opens it again."""
        with _opening:
            if self._erase is not None and self._erase is not self._store:
                self._erase.close()
                self._erase = None

    @component.output_types(messages=list[ChatMessage], documents=list[Document])
    def run(self, query: str | None = None, messages: list[ChatMessage] | None = None) -> dict[str, Any]:
        """Return `messages` and `documents` for a question: see the class.

        Raises
        ------
        ParameterError
            There is no question, or it is blank.
        EraseError
            As for `Erase.open` and `Erase.prompt`.
        """
        self.warm_up()
        prompt = checked(self._erase).prompt(_question(messages or []) if query is None else query)
        return {
            "messages": _conversation(prompt, messages),
            "documents": [
                Document(id=str(each.id), content=each.input, meta={"output": each.output, "rationale": each.rationale})
                for each in prompt.demonstrations
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a dict: the store's folder, and the options to open it.

        Raises
        ------
        NotPicklableError, ParameterError
            The store was opened with a key or a model that is not named by a text.
        """
        if not isinstance(self._store, Erase):
            return default_to_dict(self, store=str(self._store), **self._options)
        _, (_, folder, options) = self._store.__reduce__()
        named = {name: options[name] for name in NAMED if options[name]}
        texts = {name: str(value) if isinstance(value, PathLike) else value for name, value in named.items()}
        _check_texts(texts)
        return default_to_dict(self, store=str(folder), **texts)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EraseDemonstrations:
        """Return the component that `to_dict` describes."""
        made: EraseDemonstrations = default_from_dict(cls, data)
        return made


def _check_texts(options: dict[str, Any]) -> None:
    for name, value in options.items():
        every = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in every):
            raise ParameterError(
                f"{name} must be text to be saved with a pipeline, got {type(every[0]).__name__}. Give the name of a "
                "model, a path, or for a key env:NAME."
            )


def _question(messages: Sequence[ChatMessage]) -> str:
    asked = [message.text for message in messages if message.is_from(ChatRole.USER) and message.text]
    if not asked:
        raise ParameterError("there is no question: give query, or messages with a text of the user.")
    return asked[-1]


def _conversation(prompt: Prompt, messages: list[ChatMessage] | None) -> list[ChatMessage]:
    makers = {"system": ChatMessage.from_system, "user": ChatMessage.from_user, "assistant": ChatMessage.from_assistant}
    if not messages:
        return [makers[each["role"]](each["content"]) for each in prompt.messages]
    n_system = next((i for i, each in enumerate(messages) if not each.is_from(ChatRole.SYSTEM)), len(messages))
    shared = prompt.shared_messages[len(prompt.head_messages) if n_system else 0 :]
    shown = [makers[each["role"]](each["content"]) for each in shared]
    return [*messages[:n_system], *shown, *messages[n_system:]]
