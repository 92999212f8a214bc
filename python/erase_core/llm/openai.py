"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a provider.

Owns the requests and what can go wrong with them. Prompts go to the server and nowhere else, neither into logs nor into
errors; but errors quote the beginning of what a server says. What it keeps of prompts is beyond this module's reach.
"""

from __future__ import annotations

import json
import math
import time
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from erase_core.errors import (
    EraseError,
    LLMError,
    MissingPackageError,
    NotPicklableError,
    ParameterError,
    PromptTooLongError,
    ServerError,
)
from erase_core.llm.protocol import Answer, Choice, check_max_tokens, check_options, check_room
from erase_core.parameters import integer
from erase_core.pickling import Recipe, Shared, make_again

if TYPE_CHECKING:
    from openai import APIStatusError

    from erase_core.prompt import Prompt

__all__ = ["OpenAILLM"]

# What a chat template may put around one message.
TOKENS_PER_MESSAGE = 8
INSTRUCTION = "Answer with exactly one of the following, word for word, and with nothing else:"
REMEDIES = {
    400: "see whether the server knows the model and its parameters",
    401: "give the server's api_key",
    403: "give an api_key that may use this model",
    404: "check the model's name, and base_url, which most often ends in /v1",
    429: "wait, or ask for a higher limit",
}


class OpenAILLM(Shared):
    """A chat model that is asked through the `openai` client, at temperature 0.

    Parameters
    ----------
    model : str
        The model's name at the server.
    base_url : str
        Address of the server's interface, such as ``http://localhost:8000/v1``.
    api_key : str or None, default=None
        None for a server that asks for none; the environment is not searched for one.
    timeout : float, default=60.0
        Seconds to wait for an answer, for each try.
    max_retries : int, default=2
        Further tries, 0 to 100, after a failed connection, a timeout, or a status of 408, 409, 429 or 500 and above.
    context_length : int or None, default=None
        Most tokens of prompt and answer together. Some servers cut a longer prompt silently, so give it if it is known.

    Attributes
    ----------
    name : str
        The model's name and the server's address.

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
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise ParameterError(f"model must be the name of a model at the server, got {model!r}")
        if not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise ParameterError(f"timeout must be a positive number of seconds, got {timeout!r}")
        self.context_length = None if context_length is None else integer("context_length", context_length, 1, 2**40)
        self.name = f"{model} at {_address(base_url)}"
        self._model, self._url, self._timeout = model, base_url, timeout
        try:
            import openai
        except ImportError:
            raise MissingPackageError("openai is not installed: pip install 'erase-core[openai]'") from None
        # An empty key would make the client search the environment, and send what it finds to any server.
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            timeout=timeout,
            max_retries=integer("max_retries", max_retries, 0, 100),
        )

    def __repr__(self) -> str:
        return f"OpenAILLM({self.name!r})"

    def __reduce__(self) -> Recipe:
        if self._client.api_key != "none":
            raise NotPicklableError(
                "an OpenAILLM with an api_key is not pickled, since the key would be in the pickle; make it in the "
                "other process"
            )
        arguments = {"model": self._model, "base_url": self._url, "timeout": self._timeout}
        arguments |= {"max_retries": self._client.max_retries, "context_length": self.context_length}
        return make_again, (type(self), arguments, "name", self.name)

    def count_tokens(self, prompt: Prompt) -> int:
        """Estimate the number of tokens of a prompt: one for every two bytes of UTF-8, and eight for each message.

        The server's tokenizer is not known here. Of English a token takes three to five bytes, so this is rather too
        high; for long numbers, code and rare scripts it may be too low.
        """
        return _estimate(prompt.messages)

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the server's answer, cut at the template's stop string.

        Parameters
        ----------
        prompt : Prompt
        max_tokens : int, default=64
            Most tokens of the answer, 1 or more.

        Returns
        -------
        Answer
            Its numbers of tokens are the server's, or estimates if the server does not tell.

        Raises
        ------
        ServerError
            If the server is down, too slow, or refuses.
        LLMError
            If its answer is none.
        PromptTooLongError
            If the prompt does not fit, by the estimate of `count_tokens` or by the server's word.
        """
        start = time.perf_counter()
        text, usage = self._ask(prompt.messages, check_max_tokens(max_tokens))
        text = text.strip().split(prompt.template.stop, 1)[0].strip()
        n_prompt, n_answer = usage
        return Answer(
            text,
            _estimate(prompt.messages) if n_prompt is None else n_prompt,
            _bytes_in_tokens(text) if n_answer is None else n_answer,
            time.perf_counter() - start,
        )

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Ask the server to name one of the options.

        Its answer counts for an option that it equals, or else equals without regard to case, punctuation and space,
        or else for the only one that it contains as whole words.

        Parameters
        ----------
        prompt : Prompt
        options : sequence of str
            One or more, unique, not blank.

        Returns
        -------
        Choice
            Its scores are 1.0 for the option named and 0.0 for the others.

        Raises
        ------
        ServerError, PromptTooLongError
            As for `generate`.
        LLMError
            If the answer names none of the options or several.
        ParameterError
            If the options are not such.
        """
        start = time.perf_counter()
        checked = check_options(options)
        *before, query = prompt.messages
        asked = "\n".join([query["content"], "", INSTRUCTION, *(f"- {option}" for option in checked)])
        longest = max(len(option.encode()) for option in checked)
        text, _ = self._ask([*before, {"role": query["role"], "content": asked}], max(64, 2 * longest))
        option = self._named(text, checked)
        scores = {each: float(each == option) for each in checked}
        return Choice(option, scores, time.perf_counter() - start)

    def forget(self) -> None:
        """Do nothing: no prompt is kept here. What the server keeps is for its operator to delete."""

    def _ask(self, messages: list[dict[str, str]], max_tokens: int) -> tuple[str, tuple[int | None, int | None]]:
        """Return the text of an answer and the server's counts of tokens, of the prompt and of the answer."""
        import openai

        check_room(_estimate(messages), max_tokens, self.context_length)
        sent: Any = messages
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self._model, messages=sent, temperature=0.0, max_tokens=max_tokens
            )
            body = json.loads(response.text)
        except openai.APITimeoutError:
            raise ServerError(
                f"{self._url} did not answer within {self._timeout:g} s: see whether it is busy, or raise timeout"
            ) from None
        except openai.APIConnectionError as error:
            raise ServerError(
                f"cannot reach {self._url} ({_line(error.__cause__ or error)}): start the server, or check base_url"
            ) from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except ValueError:
            raise LLMError(
                f"{self._url} did not answer with JSON: check base_url, which most often ends in /v1"
            ) from None
        try:
            text = body["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str) or not text.strip():
            raise LLMError(f"{self._url} answered without a text: see whether {self._model!r} is a chat model")
        return text, (_count(body, "prompt_tokens"), _count(body, "completion_tokens"))

    def _refusal(self, error: APIStatusError) -> EraseError:
        said = error.body.get("message") if isinstance(error.body, dict) else None
        code = error.status_code
        reason = f"status {code}" + (f", {_line(said)!r}" if isinstance(said, str) and said else "")
        if code in (400, 413, 422) and ("context_length" in str(error.code) or "context length" in str(said).lower()):
            return PromptTooLongError(
                f"the prompt is too long for {self.name} ({reason}): use fewer or shorter demonstrations"
            )
        remedy = REMEDIES.get(code, "see the server's log" if code >= 500 else "check base_url and the model's name")
        return ServerError(f"{self._url} refused the request for {self._model!r} ({reason}): {remedy}")

    def _named(self, text: str, options: tuple[str, ...]) -> str:
        if text.strip() in options:
            return text.strip()
        said = _plain(text)
        plain = {option: _plain(option) for option in options}
        named = [option for option in options if plain[option] and plain[option] == said]
        named = named or [option for option in options if plain[option] and f" {plain[option]} " in f" {said} "]
        if len(named) == 1:
            return named[0]
        found = f"{len(named)} of the options" if named else "none of the options"
        raise LLMError(f"{self.name} named {found} with {_line(text)!r}: make the options more distinct, or generate")


def _address(base_url: object) -> str:
    parts = urlsplit(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(f"base_url must begin with http:// or https:// and a host, got {base_url!r}")
    return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")


def _plain(text: str) -> str:
    """Return the words of a text in one case, with one space between them and no punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(sign)[0] in "PZC" else sign for sign in folded).split())


def _estimate(messages: list[dict[str, str]]) -> int:
    return sum(_bytes_in_tokens(message["content"]) + TOKENS_PER_MESSAGE for message in messages)


def _bytes_in_tokens(text: str) -> int:
    return -(-len(text.encode()) // 2)


def _count(body: dict[str, Any], name: str) -> int | None:
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _line(said: object) -> str:
    """Return what someone said on one line, not too long."""
    text = " ".join(str(said).split())
    return text if len(text) <= 100 else text[:99] + "…"
