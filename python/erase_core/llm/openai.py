"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a provider.

Turns the replies from `connection` into answers and choices. Prompts are sent to the server and nowhere else, neither
to logs nor to errors. Errors do quote the beginning of a server's reply. If a server stores prompts, its operator must
delete them.
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

__all__ = ["OpenAILLM", "tokens_of_message"]

# Most tokens that a chat template is assumed to add to a message.
TOKENS_PER_MESSAGE = 8
BYTES_PER_TOKEN = 2


class OpenAILLM(Shared):
    """A chat model at an OpenAI-compatible server, used through the `openai` client at temperature 0.

    If a server refuses `temperature`, requests omit it; answers may then differ each time. If it refuses `max_tokens`,
    requests use `max_completion_tokens`. The interface sends texts, not tokens. So the server decides whether a control
    token such as ``<|im_start|>`` in an example, a query or an option is text or begins a turn; many servers read it as
    the token. A store with ``on_control_tokens="refuse"`` never sends the common families of control tokens.

    Parameters
    ----------
    model : str
        The model's name at the server.
    base_url : str
        Address of the server, such as ``http://localhost:8000/v1``. Its query, if any, is sent with each request. User
        name and password are sent in a header, and never shown; a store refuses them.
    api_key : str or None, default=None
        The server's key. None: from the environment, see `api_key_env`. Empty: no key. It is kept only in memory, and
        never shown.
    timeout, max_retries, context_length, thinking_tokens, api_key_env, parameters
        See `ServerOptions`.

    Attributes
    ----------
    name : str
        The model's name and the server's address.
    context_length : int or None
        Most tokens of prompt and answer together, not counting thoughts: as given, or from the server's list of models,
        which is requested once. Some servers silently truncate longer prompts, so give it if you know it.

    Raises
    ------
    MissingPackageError
        `openai` is not installed.
    ParameterError
        A parameter has the wrong type or is out of range.
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
        self._made_of: dict[str, Any] | None = None  # None if there is a secret, which only the connection may hold
        if not api_key and address.credentials is None:
            self._made_of = {"model": model, "base_url": base_url, "api_key": api_key, **asdict(options)}
        self.name = self._connection.name
        self._thinking_tokens = options.thinking_tokens
        self._context_length, self._context_length_known = options.context_length, options.context_length is not None
        self._useless: set[str] = set()

    def __repr__(self) -> str:
        return f"OpenAILLM({self.name!r})"

    def __reduce__(self) -> Recipe:
        if self._made_of is None:
            raise NotPicklableError(
                "an OpenAILLM with an api_key, or with a password in base_url, cannot be pickled: the pickle would "
                "contain the secret. Create it in the other process."
            )
        return make_again, (type(self), self._made_of, "name", self.name)

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together, not counting thoughts; None if unknown."""
        if not self._context_length_known:
            try:
                self._context_length, self._context_length_known = self._connection.context_length(), True
            except ServerError:  # the actual request will raise the error; the list is requested again next time
                return None
        return None if self._context_length is None else max(1, self._context_length - self._thinking_tokens)

    def count_tokens(self, prompt: Prompt) -> int:
        """Estimate the number of tokens of a prompt: one for every two bytes of UTF-8, and eight for each message.

        The server's tokenizer is unknown. For English text, with three to five bytes in a token, the estimate is too
        high; for long numbers, code and rare scripts it may be too low.
        """
        return _estimate(prompt.messages)

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the server's answer without the model's thoughts, cut at the template's stop string.

        Parameters
        ----------
        prompt : Prompt
        max_tokens : int, default=64
            Most tokens of the answer, 1 or more, not counting thoughts: see `thinking_tokens`.

        Returns
        -------
        Answer
            The numbers of tokens come from the server, which counts thoughts, or are estimates.

        Raises
        ------
        ServerError
            The server is unreachable, too slow, or refuses the request.
        LLMError
            The reply has no text, or the model refuses to answer.
        PromptTooLongError
            The prompt is too long, by the estimate of `count_tokens` or according to the server.
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
            _tokens_of(text) if reply.n_answer is None else reply.n_answer,
            time.perf_counter() - start,
            cut_off=reply.cut_off and stop not in reply.text,
        )

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Ask the server for one of the options.

        First, the answer is constrained to the options, with `response_format` or the parameters of vLLM and llama.cpp.
        If the server cannot do that, it is asked for the letter of an option, with log-probabilities; and if it cannot
        do that either, for a free answer. A free answer must be an option, apart from case, quotes around it, a final
        stop and an announcement ("The answer is:"). A way that a server does not support is not tried again.
        `Choice.found_by` says which way was used.

        Parameters
        ----------
        prompt : Prompt
        options : sequence of str
            One or more, unique, not blank.

        Raises
        ------
        ServerError, PromptTooLongError
            See `generate`.
        LLMError
            The server's answer is not an option, or the model refuses to answer.
        ParameterError
            The options are invalid.
        """
        start = time.perf_counter()
        checked = check_options(options)
        useless: list[str] = []
        for way in WAYS:
            if way.name in self._useless or way.fields(checked) is None:
                continue
            found = self._try(way, prompt.messages, checked, last=way is WAYS[-1])
            if found is not None:
                # Only after a success: a server that refuses everything may have another problem.
                self._useless.update(useless)
                seconds = time.perf_counter() - start
                return Choice(found.option, found.scores, seconds, found.by, bounded=found.bounded)
            useless.append(way.name)
        raise AssertionError("the last way finds an option or raises")

    def forget(self) -> None:
        """Do nothing: this object keeps no prompts. If the server keeps prompts, its operator must delete them."""

    def _try(self, way: Way, messages: list[dict[str, str]], options: tuple[str, ...], *, last: bool) -> Found | None:
        """Ask the server in one way. Return the option that it names; None if this way does not work."""
        *before, query = messages
        asked = [*before, {"role": query["role"], "content": way.question(query["content"], options)}]
        # The prompt must leave room for the bytes of an option. Further tokens of this way are used only if they fit.
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
                f"{self.name} named none of the options with its answer {self._connection.quoted(reply.text)}"
                f"{', which was cut off' if reply.cut_off else ''}. Make the options more distinct, or use generate."
            )
        return found


def _estimate(messages: list[dict[str, str]]) -> int:
    return sum(tokens_of_message(message["content"]) for message in messages)


def tokens_of_message(text: str) -> int:
    """Return an estimate of the tokens of a message that is high for most languages."""
    return _tokens_of(text) + TOKENS_PER_MESSAGE


def _tokens_of(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
