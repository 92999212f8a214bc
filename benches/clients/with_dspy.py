"""DSPy: a predictor, asked through a model server."""

import os

import dspy
from erase_core import Erase
from erase_core.integrations.dspy import Demonstrated

dspy.configure(lm=dspy.LM("openai/any", api_base=os.environ["MODEL_SERVER"], api_key="none"))
with Erase.open("store") as erase:
    answer = Demonstrated(dspy.Predict("question -> answer"), erase)
    print(answer(question="where is my parcel?").answer)
