"""Haystack: a pipeline that makes the messages for a chat model."""

from erase_core.integrations.haystack import EraseDemonstrations
from haystack import Pipeline

pipeline = Pipeline()
pipeline.add_component("demonstrations", EraseDemonstrations("store"))
result = pipeline.run({"demonstrations": {"query": "where is my parcel?"}})
print([message.text for message in result["demonstrations"]["messages"]])
