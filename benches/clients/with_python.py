"""The facade: print the prompt for a question."""

from erase_core import Erase

with Erase.open("store") as erase:
    print(erase.prompt("where is my parcel?").text)
