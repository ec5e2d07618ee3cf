"""The root of the command line; each command has a module of its own."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from flovyn.cli import replay, server
from flovyn.errors import FlovynError

__all__ = ["app", "run"]

app: typer.Typer = typer.Typer(
    name="flovyn",
    help="Durable workflows as structured concurrency.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("replay")(replay.replay)
app.command("server")(server.server)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"flovyn {version('flovyn')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows as structured concurrency."""


def run() -> None:
    """Run the command line; what Flovyn itself complains about becomes one line and the exit code 2."""
    try:
        app()
    except FlovynError as error:
        sys.stderr.write(f"flovyn: {error.message}\n")
        raise SystemExit(2) from None
