"""LangChain: a few-shot prompt."""

from erase_core import Erase
from erase_core.integrations.langchain import EraseExampleSelector
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate

with Erase.open("store") as erase:
    prompt = FewShotPromptTemplate(
        example_selector=EraseExampleSelector(erase),
        example_prompt=PromptTemplate.from_template("Q: {input}\nA: {output}"),
        suffix="Q: {question}\nA:",
        input_variables=["question"],
    )
    print(prompt.format(question="where is my parcel?"))
