"""The results of the demo, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from erase_core.reports import ForgetReport, Verification

__all__ = ["Outcome", "Rebuilt", "Score"]


@dataclass(frozen=True)
class Score:
    """How many questions were answered correctly with a selection of demonstrations, and the median seconds of one."""

    selection: str
    n_right: int
    n_questions: int
    median_seconds: float


@dataclass(frozen=True)
class Rebuilt:
    """The comparison with a store built only from the remaining examples, and the seconds that building it took."""

    digest: str
    digests_equal: bool
    prompts_equal: bool
    scores_equal: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The results of the demo."""

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
        """Whether all comparisons are equal, and no trace of the forgotten texts was found."""
        same = self.rebuilt.digests_equal and self.rebuilt.prompts_equal and self.rebuilt.scores_equal
        return self.verification.ok and same and self.n_traces == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `ok` as a dict for JSON."""
        return {"ok": self.ok, **asdict(self)}
