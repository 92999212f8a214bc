"""Error replies of model servers: finds the message in a body, and classifies it.

Pure functions. They know the messages of OpenAI, vLLM, SGLang, TGI, llama.cpp, Ollama, LM Studio and providers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Refusal", "refusal_in"]

REMEDIES = {
    400: "Check whether the server knows the model and its parameters",
    401: "Give the server's api_key, or put it into OPENAI_API_KEY",
    402: "Add credit at the provider",
    403: "Give an api_key that may use this model",
    404: "Check the model's name, and base_url, which usually ends in /v1",
    422: "Check whether the server knows the model and its parameters",
    429: "Wait, or ask for a higher limit",
    503: "Wait until the server is ready, or see its log",
    529: "Wait, or use another server",
}
TOO_LONG_KINDS = re.compile(r"context_length|exceed_context|context_window|string_above_max_length|request_too_large")
LIMIT = (
    r"(?:context|n_ctx|session_len|max_model_len|max_seq_len|sequence length|model length|input length|prompt length)"
)
PROMPT = r"(?:prompt|inputs?|messages?|requests?|conversation|query)"
EXCESS = (
    r"(?:exceed|overflow|too (?:long|large|many|big)|longer|larger|greater|more than|less than|at most|>|"
    r"maximum|must be <=|reduce)"
)
TOO_LONG = re.compile(
    "|".join(
        [
            rf"\b{LIMIT}.*{EXCESS}",
            rf"{EXCESS}.*\b{LIMIT}",
            rf"\b{PROMPT}`?s?\b.{{0,60}}\btoo (?:long|large)",
            rf"\b{PROMPT}`?s?\b.{{0,20}}\bexceeds? (?:the )?kv cache",
            r"range of input length should be",
            r"token count exceeds|tokens .{0,40}exceeds? max message tokens",
            rf"^(?=.*\b{PROMPT}\b)(?=.*\btokens?\b)(?=.*{EXCESS})(?=.*\d)",
            r"too many (?:input |prompt )?tokens\b(?!.*per minute)",
            r"max_new_tokens`? must be <=",
            r"reduce the length of",
            r"string too long",
        ]
    ),
    re.IGNORECASE | re.DOTALL,
)
# Statuses with which servers refuse a prompt that is too long. 413 means only that.
TOO_LONG_STATUSES = (200, 400, 413, 422, 424, 500)
UNKNOWN = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|deprecated|not available|extra inputs|"
    r"max_completion_tokens",
    re.IGNORECASE,
)
FILTERED = re.compile(r"content.?(?:filter|management|policy)|moderation", re.IGNORECASE)
NO_SYSTEM = re.compile(
    r"system (?:role|messages?|prompts?) (?:is |are )?not|not support '?(?:system|developer)|roles must alternate",
    re.IGNORECASE,
)
CONSTRAINTS = re.compile(r"response_format|json_schema|schema|grammar|guided|structured|logprobs", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a server did not answer.

    Attributes
    ----------
    status : int
        The HTTP status, or the status in the body of a reply with status 200.
    message : str
        The server's message without quotations of the request; empty if there is none.
    kind : str
        The server's codes and types of the error.
    parameter : str
        The parameter that caused the error, if the server names it.
    """

    status: int
    message: str
    kind: str
    parameter: str

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt, with the room for its answer, is too long."""
        if self.status not in TOO_LONG_STATUSES:
            return False
        if self.status == 413 or TOO_LONG_KINDS.search(self.kind):
            return True
        # Such a message is about the length of the answer, not of the prompt.
        answer_only = "completion tokens" in self.message and "context" not in self.message
        return not answer_only and bool(TOO_LONG.search(self.message))

    @property
    def is_about_constraint(self) -> bool:
        """Whether the reason may be that the server does not support this way to constrain an answer."""
        return self.status in (400, 415, 422, 501) or (
            self.status in (403, 404, 424, 500) and bool(CONSTRAINTS.search(f"{self.message} {self.kind}"))
        )

    @property
    def refuses_temperature(self) -> bool:
        """Whether the server does not accept a temperature, or not 0 (TGI: it must be strictly positive)."""
        return self._is_about("temperature")

    @property
    def refuses_max_tokens(self) -> bool:
        """Whether the server does not know `max_tokens`, as opposed to refusing its value."""
        return self._is_about("max_tokens") and bool(UNKNOWN.search(f"{self.message} {self.kind}"))

    def _is_about(self, parameter: str) -> bool:
        if self.status not in (200, 400, 422) or self.is_too_long:
            return False
        return self.parameter == parameter or re.search(rf"(?<!\w){parameter}(?!\w)", self.message) is not None

    @property
    def remedy(self) -> str:
        """What the user can do, as a sentence without its full stop."""
        if self.status in (400, 403, 422) and FILTERED.search(f"{self.message} {self.kind}"):
            return "Its content filter stopped the request: change the question, or use another model"
        if self.status in (400, 422, 500) and NO_SYSTEM.search(self.message):
            return "Use a template without an instruction, which is sent as the system message"
        return REMEDIES.get(self.status, "See the server's log" if self.status >= 500 else "Check base_url and llm")


def refusal_in(body: object, status: int = 200) -> Refusal | None:
    """Return why a server did not answer; None if a body with status 200 is not an error."""
    if isinstance(body, list) and len(body) == 1:  # as Google does
        (body,) = body
    if status == 200 and not _is_error(body):
        return None
    said = _error(body)
    code = said.get("code") if isinstance(said, dict) else None
    if status == 200 and isinstance(code, (int, str)) and str(code).isdecimal() and 400 <= int(code) < 600:
        status = int(code)
    names = [
        each.get(name) for each in (body, said) if isinstance(each, dict) for name in ("code", "type", "error_type")
    ]
    parameter = said.get("param") if isinstance(said, dict) else None
    message, where = _message(said)
    return Refusal(
        status,
        message,
        " ".join(name for name in names if isinstance(name, str)),
        parameter if isinstance(parameter, str) else where,
    )


def _is_error(body: object) -> bool:
    if not isinstance(body, dict):
        return False
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and choices[0].get("error"):
        return True
    if body.get("error") or body.get("object") == "error":
        return True
    return "choices" not in body and any(body.get(name) for name in ("detail", "errors", "message"))


def _error(body: object) -> object:
    """Return the part of a body that is the error."""
    if not isinstance(body, dict):
        return body if isinstance(body, str) else {}
    choices = body.get("choices")
    of_choice = (
        choices[0].get("error") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    )
    for each in (body.get("error"), of_choice, body.get("detail"), body.get("errors")):
        if each:
            return each
    return body


def _message(said: object) -> tuple[str, str]:
    """Return the message of an error, and the parameter that it is about, if FastAPI names one."""
    if isinstance(said, str):
        return said, ""
    if isinstance(said, list) and said:  # FastAPI's list of errors, whose field `input` would repeat the request
        first = said[0]
        place = first.get("loc") if isinstance(first, dict) else None
        return _message(first)[0], str(place[-1]) if isinstance(place, list) and place else ""
    if isinstance(said, dict):
        for name in ("message", "msg", "detail", "error", "error_description"):
            if isinstance(said.get(name), str) and said[name]:
                return said[name], ""
            if said.get(name) and isinstance(said[name], (dict, list)):
                return _message(said[name])
    return "", ""
