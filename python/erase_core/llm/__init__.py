"""Language models that answer a prompt: one protocol, a model in this process, a model behind a server.

Importing this package loads neither torch nor transformers nor openai: they are imported when a model is made.
"""

from erase_core.llm.openai import OpenAILLM
from erase_core.llm.protocol import LLM, Answer, Choice
from erase_core.llm.server_options import ServerOptions
from erase_core.llm.transformers import TransformersLLM

__all__ = ["LLM", "Answer", "Choice", "OpenAILLM", "ServerOptions", "TransformersLLM"]
