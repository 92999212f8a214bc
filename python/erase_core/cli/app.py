"""The command line `erase`: its commands, each of which calls a method of `Erase` and prints its result.

Printing results and turning errors into exit codes is left to `output`. Modules that are slow to import are imported
when a command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from erase_core.cli import asking, demo, forget, output, reading, receipts, scan, writing

__all__ = ["app", "main"]

app = typer.Typer(
    cls=output.Commands,
    help="Keep examples that adapt a language model through its prompt, and forget them exactly.\n\n"
    "If a command opens a copy of a store from before a removal, it does the removal again, using the receipts.",
    epilog=output.exit_codes_help(),
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from erase_core._core import __version__

        print(f"erase-core {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# The commands, in the order of `erase --help`: one line for each.
app.command()(writing.init)
app.command()(writing.ingest)
app.command()(forget.forget)
app.command()(asking.ask)
app.command()(asking.choose)
app.command()(asking.warm)
app.command()(asking.prompt)
app.command()(reading.status)
app.command()(reading.verify)
app.command()(scan.scan)
app.command()(reading.export)
app.command()(writing.rekey)
app.command()(demo.demo)
app.add_typer(receipts.app, name="receipts")


def main() -> None:
    """Run the command `erase`."""
    app()


if __name__ == "__main__":
    main()
