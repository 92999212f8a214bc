"""LiteLLM: a completion by a model server."""

import os

import litellm
from erase_core import Erase
from erase_core.integrations.litellm import with_demonstrations

with Erase.open("store") as erase:
    messages = with_demonstrations(erase, [{"role": "user", "content": "where is my parcel?"}])
answer = litellm.completion("openai/any", messages, api_base=os.environ["MODEL_SERVER"], api_key="none")
print(answer.choices[0].message.content)
