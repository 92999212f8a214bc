"""The demo of `erase demo`: 320 messages of an online shop's customers with ten intents.

The messages and the 140 test questions are invented; no customer is real.
"""

from erase_core.demo.run import Outcome, run_demo

__all__ = ["Outcome", "run_demo"]
