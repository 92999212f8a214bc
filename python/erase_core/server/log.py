"""The log of the server. No line has a text, an id, a subject, a path as it was called, or the message of an error."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

__all__ = ["LOG", "OneLine", "log_failure", "logger"]

LOG = "erase_core.server"
MOST_PLACES = 6

logger = logging.getLogger(LOG)


class OneLine(logging.Formatter):
    """Formats a record as one line. Of an error it has the class alone: a trace has its message and what led to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        bare = copy.copy(record)
        bare.exc_info = bare.exc_text = bare.stack_info = None
        kind = record.exc_info[0] if record.exc_info else None
        return " ".join([*super().format(bare).split(), *([] if kind is None else [kind.__name__])])


def log_failure(error: BaseException) -> None:
    """Log the class of an error and the places that it came through. Its message may have anything in it."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    logger.error("%s at %s", type(error).__name__, " < ".join(reversed(places[-MOST_PLACES:])))
