"""Output and exit codes of commands: results go to stdout, everything else to stderr.

What the commands do is left to `app`.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from erase_core import errors
from erase_core.cli import streams
from erase_core.cli.completion import check_shell

__all__ = [
    "ENDINGS",
    "Command",
    "Commands",
    "exit_codes_help",
    "is_terminal",
    "note",
    "notes",
    "resumable",
    "run",
    "show",
    "show_each",
    "uninterrupted",
]

# Click's base class of usage errors. typer may vendor Click, so it is found through typer.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)


class Ending(NamedTuple):
    """An exit code, its meaning, and the errors that lead to it."""

    code: int
    meaning: str
    errors: tuple[type[BaseException], ...] = ()


FILES, INTERRUPTED, BUG = 13, 130, 14
OURS = (errors.OldCopyWarning, errors.ScrubWarning, errors.StopWarning)
# The most specific class of an error counts: StoreLockedError before StoreError.
ENDINGS = (
    Ending(0, "done"),
    Ending(1, "verification failed, a scan found something, or a report says: NOT forgotten"),
    Ending(2, "wrong usage", (UsageError, errors.ParameterError, errors.NotPicklableError)),
    Ending(
        3,
        "bad input data",
        (errors.SourceError, errors.DataError, errors.PartError, errors.DuplicateIdError, errors.IdKindError),
    ),
    Ending(4, "unknown id or subject", (errors.UnknownIdError, errors.UnknownSubjectError)),
    Ending(5, "no store, or a damaged store", (errors.StoreError, errors.ModelFileError, errors.EmptyModelError)),
    Ending(6, "store of another version", (errors.StoreVersionError,)),
    Ending(7, "store locked by another process", (errors.StoreLockedError,)),
    Ending(8, "embedding model", (errors.EmbedderError,)),
    Ending(9, "language model", (errors.LLMError,)),
    Ending(10, "prompt too long", (errors.PromptTooLongError,)),
    Ending(11, "model server, or workers of an engine", (errors.ServerError, errors.WorkerLostError)),
    Ending(12, "missing package", (errors.MissingPackageError,)),
    Ending(FILES, "file or disk", (OSError,)),
    Ending(BUG, "unexpected error", (Exception,)),
    Ending(15, "done, but keys of removed data may be left, or a receipt is not published", (errors.ScrubError,)),
    Ending(16, "receipts missing, modified, or of another store", (errors.ReceiptError,)),
    Ending(17, "examples to ingest were forgotten earlier", (errors.ForgottenError,)),
    Ending(18, "unknown whether done: the disk failed at the end of a write", (errors.UncertainError,)),
    Ending(19, "done, but the result could not be printed", (streams.Unprinted,)),
    Ending(20, "key file missing or damaged, or a wrong key", (errors.KeyFileError,)),
    Ending(21, "not possible on this operating system", (errors.PlatformError,)),
    Ending(INTERRUPTED, "interrupted", (KeyboardInterrupt,)),
    Ending(141, "output not read to its end", (BrokenPipeError,)),
)
CODES = {error: ending.code for ending in ENDINGS for error in ending.errors}
# SQLite's messages about access to files, as opposed to their contents.
FILE_TROUBLE = ("disk is full", "disk I/O error", "readonly database", "unable to open database file")


class Commands(TyperGroup):
    """A group of commands whose errors and exit codes are those of this module instead of Click's."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the command given by the arguments, and exit."""
        arguments = list(sys.argv[1:] if args is None else args)

        def command() -> None:
            self._main_shell_completion({}, "erase")  # ends here if a shell asks
            check_shell(arguments)
            with self.make_context("erase", arguments) as ctx:
                self.invoke(ctx)

        raise SystemExit(run(command))


class Command(TyperCommand):
    """A command whose help lists its options by their `rich_help_panel`, which typer does only in coloured help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for the arguments, one for options without a panel, and one for each panel."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def exit_codes_help() -> str:
    r"""Return the table of exit codes. The ``\b`` stops Click from rewrapping it."""
    return "\n".join(["\b", "Exit codes:", *(f"{ending.code:>5}  {ending.meaning}" for ending in ENDINGS)])


def run(command: Callable[[], object]) -> int:
    """Run a command and return its exit code. An error is shown as one line on stderr.

    Parameters
    ----------
    command : callable

    Returns
    -------
    int
        One of `ENDINGS`. If ERASE_DEBUG is set in the environment, an unexpected error is raised instead.
    """
    try:
        streams.prepare()
        if not sys.warnoptions:  # warnings of other packages are for developers, who can use -W
            warnings.simplefilter("ignore")
        code = 0
        try:
            command()
        except typer.Exit as end:
            code = end.exit_code
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        code = _code(error)
        if code == BUG and os.environ.get("ERASE_DEBUG"):
            raise
        streams.drop_unwritten()
        with suppress(OSError):
            print(_line(error, code), end="", file=sys.stderr, flush=True)
    streams.drop_unwritten()
    return code


def show(result: Mapping[str, Any], lines: Iterable[str], *, as_json: bool, done: bool = False) -> None:
    """Print a command's result, as one JSON object or as lines. See `streams.print_result`."""
    streams.print_result(json.dumps(result) if as_json else "\n".join(lines), done=done)


def show_each(
    queries: Sequence[str] | None, results: Sequence[Mapping[str, Any]], lines: Sequence[str], *, as_json: bool
) -> None:
    """Print the result of each query, one below the other, as JSON with the query. None: there is only one result."""
    if queries is None:
        show(results[0], lines, as_json=as_json)
    elif queries:
        named = ({"query": query, **result} for query, result in zip(queries, results, strict=True))
        streams.print_result("\n".join(map(json.dumps, named) if as_json else lines), done=False)


def is_terminal() -> bool:
    """Return whether stdin and stderr are a terminal, so that a user can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C within this context, so that an interrupted command has changed nothing."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def notes() -> Iterator[None]:
    """Show warnings of erase_core within this context as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        for kind in OURS:
            warnings.simplefilter("always", kind)
        yield
    for warning in caught:
        if issubclass(warning.category, OURS):
            note(str(warning.message))


def note(text: str) -> None:
    """Show a note on stderr."""
    with suppress(OSError):  # the command must continue even if stderr cannot be written
        print(f"note: {text}", file=sys.stderr, flush=True)


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Note after Ctrl-C that the command goes on where it was: `what` is kept."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"{what} are kept. Run the command again to go on")
        raise


def _code(error: BaseException) -> int:
    cause = error.__cause__
    of_sqlite = isinstance(cause, sqlite3.OperationalError) and any(text in str(cause) for text in FILE_TROUBLE)
    if type(error) is errors.StoreError and (of_sqlite or isinstance(cause, OSError)):
        return FILES
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _line(error: BaseException, code: int) -> str:
    """Return the line to print for an error. Messages of unexpected errors are not shown."""
    if isinstance(error, BrokenPipeError):
        return ""
    if code == INTERRUPTED:
        return "interrupted; unfinished work was not saved\n"
    if isinstance(error, UsageError):
        text = error.format_message()  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":  # no command was named: the text is the help, many lines
            return f"{text}\n"
    elif isinstance(error, (errors.EraseError, streams.Unprinted)):
        text = str(error)
    elif isinstance(error, OSError):
        text = (f"{error.filename}: " if error.filename else "") + (error.strerror or type(error).__name__)
    else:
        text = f"unexpected {type(error).__name__}. Set ERASE_DEBUG=1 to see where, and report it."
    return f"error: {''.join(sign if sign.isprintable() else ' ' for sign in text)}\n"
