"""The options by which `erase forget` and `erase report` name examples: ids or subjects, or files of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from erase_core.cli.completion import one_of
from erase_core.cli.options import STDIN, named_and_listed, text_of
from erase_core.erasure.request import Match
from erase_core.errors import ParameterError
from erase_core.examples.example import integer_in

if TYPE_CHECKING:
    from erase_core.erase import Erase

__all__ = ["Ids", "IdsFrom", "MatchBy", "Named", "Naming", "SubjectFrom", "Subjects", "SubjectsFrom"]

Ids = Annotated[list[str] | None, typer.Option("--id", help="The example with this id; may be repeated.")]
IdsFrom = Annotated[
    Path | None,
    typer.Option(help="A file with ids, one on each line; - for standard input. Blank lines are ignored."),
]
Subjects = Annotated[
    list[str] | None, typer.Option("--subject", help="All examples about this subject; may be repeated.")
]
SubjectFrom = Annotated[
    Path | None, typer.Option(help="A file that contains one subject and nothing else; - for standard input.")
]
SubjectsFrom = Annotated[
    Path | None,
    typer.Option(help="A file with subjects, one on each line; - for standard input. Blank lines are ignored."),
]
MatchBy = Annotated[
    str,
    typer.Option(
        "--match",
        autocompletion=one_of(Match),
        help="How to compare subjects: exact; or normalised, which ignores case, kind and number of spaces, "
        "form of accents, and invisible characters.",
    ),
]


class Named(NamedTuple):
    """What a command names: ids or subjects. The other is None."""

    ids: list[str] | None
    subjects: list[str] | None

    def ids_for(self, erase: Erase) -> Sequence[int | str] | None:
        """Return ids in the type of the store: texts of integers become integers if the store's ids are integers."""
        integers = {text: integer for text in self.ids or () if (integer := integer_in(text)) is not None}
        if self.ids is not None and integers and erase.id_type is int:
            return [integers.get(text, text) for text in self.ids]
        return self.ids


@dataclass(frozen=True)
class Naming:
    """The options by which a command names examples, as they were given. `read` reads their files.

    Raises
    ------
    ParameterError
        They name neither ids nor subjects, or both, or a subject in a file and others besides.
    """

    command: str
    ids: list[str] | None
    ids_from: Path | None
    subjects: list[str] | None
    subject_from: Path | None
    subjects_from: Path | None

    def __post_init__(self) -> None:
        of_subjects = self.subjects is not None or self.subjects_from is not None
        if sum((self._of_ids, of_subjects, self.subject_from is not None)) != 1:
            raise ParameterError(
                f"{self.command} needs --id or --ids-from (or both), or --subject or --subjects-from (or both), or "
                "--subject-from"
            )

    @property
    def _of_ids(self) -> bool:
        return self.ids is not None or self.ids_from is not None

    @property
    def reads_stdin(self) -> bool:
        """Whether standard input is one of the files."""
        return STDIN in (self.ids_from, self.subject_from, self.subjects_from)

    def read(self) -> Named:
        """Return what is named.

        Raises
        ------
        ParameterError
            A file cannot be read, or something is not in UTF-8.
        """
        ids = named_and_listed(self.ids, "--ids-from", self.ids_from) if self._of_ids else None
        subjects = None if self._of_ids else _subjects(self.subjects, self.subject_from, self.subjects_from)
        _check_utf8("--id", self.ids or ())
        _check_utf8("--subject", self.subjects or ())
        return Named(ids, subjects)


def _subjects(named: Sequence[str] | None, file: Path | None, files: Path | None) -> list[str]:
    if file is not None:
        return [text_of("--subject-from", file).removesuffix("\n").removesuffix("\r")]
    return named_and_listed(named, "--subjects-from", files)


def _check_utf8(option: str, texts: Sequence[str]) -> None:
    """Refuse arguments that are not in UTF-8. They could match nothing, and would be skipped as missing."""
    for text in texts:
        if any("\udc80" <= sign <= "\udcff" for sign in text):
            raise ParameterError(f"{option}: {text!r} is not in UTF-8. Give it in that encoding.")
