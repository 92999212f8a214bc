"""Language models: the protocol, a model in this process, and a model behind a server.

Importing this package does not import torch, transformers or openai; creating a model does.
"""

from erase_core.llm.openai import OpenAILLM
from erase_core.llm.protocol import LLM, Answer, Choice
from erase_core.llm.server_options import ServerOptions
from erase_core.llm.transformers import TransformersLLM

__all__ = ["LLM", "Answer", "Choice", "OpenAILLM", "ServerOptions", "TransformersLLM"]
