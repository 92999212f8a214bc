"""Requests to one OpenAI-compatible server: builds them, adapts them to the server, and translates its errors.

Holds the secrets of a request, and keeps them out of all errors. Replies are interpreted by `answers` and `choosing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from erase_core.errors import EraseError, LLMError, MissingPackageError, ParameterError, PromptTooLongError, ServerError
from erase_core.llm.address import Address
from erase_core.llm.answers import Reply, cleaned, one_line, read_reply
from erase_core.llm.model_list import context_length_in
from erase_core.llm.server_errors import Refusal, refusal_in
from erase_core.llm.server_options import ServerOptions, check_key, key_from

__all__ = ["Connection", "ConstraintRefusedError"]

# Sent if there is no key. With an empty key, the client would search the environment.
NO_KEY = "none"
NORMAL_ENDS = {"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "length"}
# Marks a body that is not JSON. None would be JSON's null.
NO_JSON = object()
# Most seconds to wait for the server's list of models, which is not essential.
PATIENCE = 5.0


class ConstraintRefusedError(Exception):
    """A server refused a request whose fields constrain the answer.

    Attributes
    ----------
    error : EraseError
        The error to raise if there is no other way to try.
    """

    def __init__(self, error: EraseError) -> None:
        super().__init__()
        self.error = error


class Connection:
    """A connection to a model at a server. It remembers the parameters that the server does not accept.

    Parameters
    ----------
    model : str
    address : Address
    api_key : str or None
        None: the key from the environment, unless the address has credentials.
    options : ServerOptions
    """

    def __init__(self, model: str, address: Address, api_key: str | None, options: ServerOptions) -> None:
        self.name = f"{model} at {address.shown}"
        self._model, self._url, self._options = model, address.url, options
        key = check_key(api_key)
        if key is None and address.credentials is None:
            key = key_from(options.api_key_env)
        # A server may repeat these in its replies, but they must not appear in errors.
        credentials = address.credentials or ""
        secrets = (key, credentials, credentials.partition(":")[2], (address.authorization or "").partition(" ")[2])
        self._secrets = sorted({each for each in secrets if each}, key=len, reverse=True)
        self._client = _client(address, key or NO_KEY, options)
        self._refused: set[str] = set()

    def ask(self, messages: list[dict[str, str]], max_tokens: int, fields: Mapping[str, Any]) -> Reply:
        """Return the server's reply. A parameter that the server refuses is left out in this and later requests.

        Parameters
        ----------
        messages : list of dict
        max_tokens : int
            Most tokens of the answer, not counting thoughts.
        fields : mapping
            Further fields of the request, which constrain the answer.

        Raises
        ------
        ServerError
            The server is unreachable, too slow, or refuses the request.
        PromptTooLongError
            The prompt is too long for the model.
        LLMError
            The reply is not JSON, or the model refuses to answer.
        ConstraintRefusedError
            The server refuses the request, perhaps because of `fields`.
        """
        while True:
            body = self._body(max_tokens, fields)
            refusal, said = self._call(self._chat(messages, body))
            if refusal is None:
                reply = read_reply(said)
                if reply.problem is not None:
                    raise LLMError(f"{self.name} {self._hidden(reply.problem)}")
                return reply
            refused = self._not_taken(body, refusal)
            if refused is None:
                error = self._error(refusal)
                raise ConstraintRefusedError(error) if fields and refusal.is_about_constraint else error
            self._refused.add(refused)

    def context_length(self) -> int | None:
        """Return the model's context length in tokens from the server's list of models; None if it is not listed.

        Raises
        ------
        ServerError
            The server is unreachable or too slow.
        """
        client = self._client.with_options(timeout=min(self._options.timeout, PATIENCE), max_retries=0)
        try:
            _, said = self._call(client.models.with_raw_response.list)
        except LLMError:
            return None
        return context_length_in(said, self._model)

    def no_text(self, reply: Reply) -> LLMError:
        """Return the error for a reply without a text."""
        if reply.cut_off and (reply.thought or self._options.thinking_tokens):
            said = "was cut off within its thoughts, before an answer (finish_reason length)"
            given = self._options.thinking_tokens
            return LLMError(f"{self.name} {said}. Raise thinking_tokens, now {given}, to 2048 or more.")
        if reply.cut_off:
            said = "was cut off before an answer (finish_reason length)"
            return LLMError(f"{self.name} {said}. Raise max_tokens, or thinking_tokens if it is a thinking model.")
        if reply.thought:
            return LLMError(f"{self.name} gave thoughts, but no answer. Raise thinking_tokens, or turn thoughts off.")
        if reply.reason not in NORMAL_ENDS:
            said = self.quoted(reply.reason)
            return LLMError(f"{self.name} ended without an answer (finish_reason {said}). See the server's log.")
        return LLMError(f"{self._url} answered without a text. Check whether {self._model!r} is a chat model.")

    def quoted(self, said: str) -> str:
        """Return words of the server as a quotation for an error: one short line, without secrets of the request."""
        return repr(one_line(self._hidden(said)))

    def _chat(self, messages: Any, body: dict[str, Any]) -> Callable[[], Any]:
        create = self._client.chat.completions.with_raw_response.create
        return lambda: create(model=self._model, messages=messages, extra_body=body)

    def _not_taken(self, body: Mapping[str, Any], refusal: Refusal) -> str | None:
        """Return the default parameter that the server does not accept, or None. Parameters set by the caller stay."""
        about = {"max_tokens": refusal.refuses_max_tokens, "temperature": refusal.refuses_temperature}
        own = [name for name in about if name in body and name not in self._options.parameters]
        return next((name for name in own if about[name]), None)

    def _body(self, max_tokens: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a request in addition to model and messages."""
        most = max_tokens + self._options.thinking_tokens
        bound = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        body: dict[str, Any] = {"temperature": 0.0, bound: most}
        if "temperature" in self._refused:
            del body["temperature"]
        body |= {**self._options.parameters, **fields}
        return {name: value for name, value in body.items() if value is not None}

    def _call(self, send: Callable[[], Any]) -> tuple[Refusal | None, object]:
        """Send a request. Return the refusal and None, or None and the JSON of the reply."""
        import openai

        try:
            text = send().text
        except openai.APITimeoutError:
            wait = f"{self._options.timeout:g} s"
            raise ServerError(
                f"{self._url} did not answer within {wait}. Check whether it is busy, or raise timeout."
            ) from None
        except openai.APIStatusError as error:
            return refusal_in(_json(error.response.text), error.status_code), None
        except (openai.OpenAIError, ValueError) as error:  # ValueError: not a host name
            reason = self._hidden(one_line(error.__cause__ or error))
            raise ServerError(f"cannot reach {self._url} ({reason}). Start the server, or check base_url.") from None
        said = _json(text)
        if said is NO_JSON:
            raise LLMError(f"{self._url} did not answer with JSON. Check base_url, which usually ends in /v1.")
        return refusal_in(said), said

    def _error(self, refusal: Refusal) -> EraseError:
        words = f", {self.quoted(refusal.message)}" if refusal.message else ""
        reason = f"status {refusal.status}{words}"
        if refusal.is_too_long:
            return PromptTooLongError(
                f"the prompt is too long for {self.name} ({reason}). Use fewer or shorter demonstrations."
            )
        return ServerError(f"{self._url} refused the request for {self._model!r} ({reason}). {refusal.remedy}.")

    def _hidden(self, said: str) -> str:
        """Return words of the server without the secrets of the request."""
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return said


def _client(address: Address, key: str, options: ServerOptions) -> Any:
    try:
        import openai
    except ModuleNotFoundError:
        raise MissingPackageError.of("openai", "openai") from None
    try:
        return openai.OpenAI(
            base_url=address.url,
            api_key=key,
            timeout=options.timeout,
            max_retries=options.max_retries,
            default_query=dict(address.query) or None,
            default_headers={"Authorization": address.authorization} if address.authorization else None,
        )
    except Exception as error:  # httpx has its own errors for hosts and ports, and the client may vendor it
        raise ParameterError(f"base_url cannot be used ({one_line(error)}). Check host and port.") from None


def _json(text: str) -> object:
    """Return decoded JSON that can be printed; `NO_JSON` if it is not JSON, or is nested too deeply."""
    try:
        return cleaned(json.loads(text))
    except (ValueError, RecursionError):
        return NO_JSON
