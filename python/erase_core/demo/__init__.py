"""The demo: 320 messages of an online shop's customers, ten intents, and what `erase demo` does with them.

The messages and the 140 test questions were made up for this; no customer is real.
"""

from erase_core.demo.run import Outcome, run_demo

__all__ = ["Outcome", "run_demo"]
