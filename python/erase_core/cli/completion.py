"""Completion of the command line by a shell: values of options, and which shells there are.

typer does the rest: it answers a shell that asks by the environment variable _ERASE_COMPLETE, and has the options
--install-completion and --show-completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from erase_core.errors import ParameterError

__all__ = ["check_shell", "one_of"]

INSTALLING = ("--install-completion", "--show-completion")
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def one_of(values: Any) -> Callable[[], list[str]]:
    """Return what typer asks for the values of an option: a `Literal`, or an iterable of texts."""
    return lambda: list(get_args(values) or values)


def check_shell(arguments: Sequence[str]) -> None:
    """Check, if the arguments ask for completion, that the shell they come from is one that has it.

    Raises
    ------
    ParameterError
    """
    if not set(INSTALLING).intersection(arguments[:1]):
        return
    import shellingham

    try:
        shell = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        shell = "none"
    if shell not in SHELLS:
        raise ParameterError(
            f"{arguments[0]} must be called from one of the shells {', '.join(SHELLS)}, found {shell}. Start one of "
            "them, and call it there."
        )
