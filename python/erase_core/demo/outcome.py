"""What the demo did and found, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from erase_core.reports import ForgetReport, Verification

__all__ = ["Outcome", "Rebuilt", "Score"]


@dataclass(frozen=True)
class Score:
    """How many questions were answered rightly with a selection of examples, and in how many seconds."""

    selection: str
    n_right: int
    n_questions: int
    seconds: float


@dataclass(frozen=True)
class Rebuilt:
    """A store built from the survivors alone, beside the one that forgot: all that is compared, and seconds."""

    digest: str
    digests_equal: bool
    prompts_equal: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the demo did and found."""

    folder: str
    n_shots: int
    seed: int
    model: str
    scores: list[Score]
    subject: str
    forgotten: ForgetReport
    n_traces: int
    verification: Verification
    rebuilt: Rebuilt
    bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all that is to be equal is, and nothing was left behind."""
        same = self.rebuilt.digests_equal and self.rebuilt.prompts_equal
        return self.verification.ok and same and self.n_traces == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and whether all is well, for JSON."""
        return {"ok": self.ok, **asdict(self)}
