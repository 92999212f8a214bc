"""What the tests of a model at a server share: a prompt with a secret in it, a client, what an error may say."""

from __future__ import annotations

from typing import Any

from chat_server import Server
from erase_core.examples.example import Example
from erase_core.llm import OpenAILLM
from erase_core.llm.prompt import Prompt, Template

SECRET = "zebra-4711"
EXAMPLES = (Example(1, "Is ice cold?", "yes"), Example(2, "Do stones swim?", "no"))
OPTIONS = ["yes", "no", "not known"]
PROMPT = Prompt(Template(instruction="Answer."), EXAMPLES, f"Is {SECRET} a number?")


def ask(server: Server, **options: Any) -> OpenAILLM:
    return OpenAILLM("small", base_url=server.url, **{"max_retries": 0, **options})


def one_line(error: BaseException) -> str:
    """Return an error's message, having checked that it is one line, names the server and tells nothing of prompts."""
    message = str(error)
    assert "\n" not in message
    assert "127.0.0.1" in message
    assert SECRET not in message
    assert error.__cause__ is None
    return message
