"""The command line `erase`: its commands, each of which calls a method of `Erase` and prints its result.

Printing results and turning errors into exit codes is left to `output`. Modules that are slow to import are imported
when a command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from erase_core.cli import asking, demo, evaluate, forget, mcp, output, reading, receipts, report, scan, serve, writing

__all__ = ["app", "main"]

app = typer.Typer(
    cls=output.Commands,
    help="Keep examples that adapt a language model through its prompt, and forget them exactly.\n\n"
    "If a command opens a copy of a store from before a removal, it does the removal again, using the receipts.",
    epilog=output.exit_codes_help(),
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _version(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:  # the shell asks for completions
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
app.command(cls=output.Command)(writing.init)
app.command(cls=output.Command)(writing.ingest)
app.command(cls=output.Command)(forget.forget)
app.command(cls=output.Command)(report.report)
app.command(cls=output.Command)(asking.ask)
app.command(cls=output.Command)(asking.choose)
app.command(cls=output.Command)(asking.warm)
app.command(cls=output.Command)(asking.prompt)
app.command(cls=output.Command)(reading.status)
app.command(cls=output.Command)(reading.verify)
app.command(cls=output.Command)(scan.scan)
app.command(cls=output.Command)(reading.export)
app.command(cls=output.Command)(writing.rekey)
app.command(cls=output.Command)(serve.serve)
app.command(cls=output.Command)(mcp.mcp)
app.command(cls=output.Command)(demo.demo)
app.command(cls=output.Command)(evaluate.evaluate)
app.add_typer(receipts.app, name="receipts")


def main() -> None:
    """Run the command `erase`."""
    app()


if __name__ == "__main__":
    main()
