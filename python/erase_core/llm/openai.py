"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a provider.

Makes answers and choices of what `connection` brings. Prompts go to the server and nowhere else, neither into logs nor
into errors; but errors quote the beginning of what a server says. What a server keeps of prompts is for its operator to
delete.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from erase_core.errors import LLMError, NotPicklableError, ParameterError, ServerError
from erase_core.examples.example import unstorable
from erase_core.llm.address import Address
from erase_core.llm.choosing import WAYS, Found, Way
from erase_core.llm.connection import Connection, ConstraintRefusedError
from erase_core.llm.protocol import Answer, Choice, check_max_tokens, check_options, check_room
from erase_core.llm.server_options import ServerOptions
from erase_core.pickling import Recipe, Shared, make_again

if TYPE_CHECKING:
    from erase_core.llm.prompt import Prompt

__all__ = ["OpenAILLM"]

# What a chat template may put around one message.
TOKENS_PER_MESSAGE = 8


class OpenAILLM(Shared):
    """A chat model that is asked through the `openai` client, at temperature 0.

    Where a model refuses `temperature` or `max_tokens`, the request is repeated without the one, or with
    `max_completion_tokens` for the other, and so from then on. Without a temperature its answers may differ each time.
    Whether a control token such as ``<|im_start|>`` in an example, a query or an option is text or begins a turn is up
    to the server: the interface sends texts, not tokens, and many servers read it as the token. A store made with
    ``on_control_tokens="refuse"`` sends none of the common families.

    Parameters
    ----------
    model : str
        The model's name at the server.
    base_url : str
        Address of the server's interface, such as ``http://localhost:8000/v1``. A query in it is sent with each
        request. A user name and password become a header, and are not shown; a store does not take them.
    api_key : str or None, default=None
        None: the environment's, see `api_key_env`. Empty: none is sent. It is kept in memory only, and not shown.
    timeout, max_retries, context_length, thinking_tokens, api_key_env, parameters
        See `ServerOptions`.

    Attributes
    ----------
    name : str
        The model's name and the server's address.
    context_length : int or None
        Most tokens of prompt and answer together, without those of thoughts: as given, or as the server's list of
        models says, which is asked for once. Some servers cut a longer prompt silently, so give it if it is known.

    Raises
    ------
    MissingPackageError
        If `openai` is not installed.
    ParameterError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        context_length: int | None = None,
        thinking_tokens: int = 0,
        api_key_env: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str) or not model.strip() or unstorable(model):
            raise ParameterError(f"model must be the name of a model at the server, got {model!r}")
        options = ServerOptions(
            timeout, max_retries, context_length, thinking_tokens, api_key_env, {} if parameters is None else parameters
        )
        address = Address.of(base_url)
        self._connection = Connection(model, address, api_key, options)
        self._made_of: dict[str, Any] | None = None  # where there is a secret, which is kept in the connection alone
        if not api_key and address.credentials is None:
            self._made_of = {"model": model, "base_url": base_url, "api_key": api_key, **asdict(options)}
        self.name = self._connection.name
        self._thinking_tokens = options.thinking_tokens
        self._context, self._context_known = options.context_length, options.context_length is not None
        self._useless: set[str] = set()

    def __repr__(self) -> str:
        return f"OpenAILLM({self.name!r})"

    def __reduce__(self) -> Recipe:
        if self._made_of is None:
            raise NotPicklableError(
                "an OpenAILLM with an api_key, or a password in base_url, is not pickled, since it would be in the "
                "pickle; make it in the other process"
            )
        return make_again, (type(self), self._made_of, "name", self.name)

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together, beside those of thoughts; None if not known."""
        if not self._context_known:
            try:
                self._context, self._context_known = self._connection.context(), True
            except ServerError:  # the request that matters says so; the list is asked for again with the next one
                return None
        return None if self._context is None else max(1, self._context - self._thinking_tokens)

    def count_tokens(self, prompt: Prompt) -> int:
        """Estimate the number of tokens of a prompt: one for every two bytes of UTF-8, and eight for each message.

        The server's tokenizer is not known here. Of English a token takes three to five bytes, so this is rather too
        high; for long numbers, code and rare scripts it may be too low.
        """
        return _estimate(prompt.messages)

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the server's answer without the model's thoughts, cut at the template's stop string.

        Parameters
        ----------
        prompt : Prompt
        max_tokens : int, default=64
            Most tokens of the answer, 1 or more; those of thoughts are `thinking_tokens`.

        Returns
        -------
        Answer
            Its numbers of tokens are the server's, which count thoughts, or estimates if it does not count.

        Raises
        ------
        ServerError
            If the server is down, too slow, or refuses.
        LLMError
            If its answer has no text, or the model refuses.
        PromptTooLongError
            If the prompt does not fit, by the estimate of `count_tokens` or by the server's word.
        """
        start = time.perf_counter()
        most = check_max_tokens(max_tokens)
        check_room(_estimate(prompt.messages), most, self.context_length)
        reply = self._connection.ask(prompt.messages, most, {})
        if not reply.text:
            raise self._connection.no_text(reply)
        stop = prompt.template.stop
        text = reply.text.split(stop, 1)[0].strip()
        return Answer(
            text,
            _estimate(prompt.messages) if reply.n_prompt is None else reply.n_prompt,
            _bytes_in_tokens(text) if reply.n_answer is None else reply.n_answer,
            time.perf_counter() - start,
            cut_off=reply.cut_off and stop not in reply.text,
        )

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Ask the server for one of the options.

        It is asked for an answer that can be nothing else, by `response_format` or by the parameters of vLLM and
        llama.cpp. A server that cannot do that is asked for the letter of an option, if it gives log-probabilities,
        and else for a free answer. That counts only if it *is* an option, but for case, quotes around it, a final stop
        and an announcement ("The answer is:"). What a server cannot do is not tried again. `Choice.found_by` says which
        way it was.

        Parameters
        ----------
        prompt : Prompt
        options : sequence of str
            One or more, unique, not blank.

        Raises
        ------
        ServerError, PromptTooLongError
            As for `generate`.
        LLMError
            If the server's answer is not an option, or the model refuses.
        ParameterError
            If the options are not such.
        """
        start = time.perf_counter()
        checked = check_options(options)
        useless: list[str] = []
        for way in WAYS:
            if way.name in self._useless or way.fields(checked) is None:
                continue
            found = self._try(way, prompt.messages, checked, last=way is WAYS[-1])
            if found is not None:
                # Only now: a server that takes nothing may be out of order.
                self._useless.update(useless)
                return Choice(found.option, found.scores, time.perf_counter() - start, found.by)
            useless.append(way.name)
        raise AssertionError("the last way finds an option or raises")

    def forget(self) -> None:
        """Do nothing: no prompt is kept here. What the server keeps is for its operator to delete."""

    def _try(self, way: Way, messages: list[dict[str, str]], options: tuple[str, ...], *, last: bool) -> Found | None:
        """Return what the server names if it is asked so; None if it cannot be asked so."""
        *before, query = messages
        asked = [*before, {"role": query["role"], "content": way.question(query["content"], options)}]
        # The caller has left room for an option's bytes; what a way needs besides is taken where there is room.
        least, most = max(len(option.encode()) for option in options) + 1, way.max_tokens(options)
        if self.context_length is not None:
            check_room(_estimate(messages), least, self.context_length)
            most = min(most, max(least, self.context_length - _estimate(asked)))
        try:
            reply = self._connection.ask(asked, most, way.fields(options) or {})
        except ConstraintRefusedError as error:
            if last:
                raise error.error from None
            return None
        found = way.read(reply, options, query["content"])
        if found is None and not reply.text and (last or reply.cut_off):
            raise self._connection.no_text(reply)
        if found is None and last:
            raise LLMError(
                f"{self.name} named none of the options with {self._connection.quoted(reply.text)}"
                f"{', which was cut off' if reply.cut_off else ''}: make the options more distinct, or generate"
            )
        return found


def _estimate(messages: list[dict[str, str]]) -> int:
    return sum(_bytes_in_tokens(message["content"]) + TOKENS_PER_MESSAGE for message in messages)


def _bytes_in_tokens(text: str) -> int:
    return -(-len(text.encode()) // 2)
