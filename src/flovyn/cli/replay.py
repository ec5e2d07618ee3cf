"""`flovyn replay`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import anyio
import typer

from flovyn.client import connect
from flovyn.client.settings import PROFILE_VARIABLES
from flovyn.definitions import definition_of
from flovyn.errors import ConfigurationError, FlovynError
from flovyn.testing import History, Replayer, Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.definitions import AnyWorkflow, Workflow
    from flovyn.serde.codecs import PayloadCodec
    from flovyn.testing.replayer.report import Status

__all__ = ["replay"]

_EXIT_CODES: Final[dict[Status, int]] = {"equal": 0, "violation": 1, "error": 2}
_COLOURS: Final = {"-": typer.colors.RED, "+": typer.colors.GREEN, "@": typer.colors.CYAN}


def replay(
    definitions: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:ATTRIBUTE...", help="Where the workflows are: each a workflow or a list of workflows."
        ),
    ],
    histories: Annotated[
        list[Path] | None,
        typer.Option("--history", help="An exported history, or a directory of them (*.json); may be repeated."),
    ] = None,
    executions: Annotated[
        list[str] | None, typer.Option("--execution", help="The id of an execution on the server; may be repeated.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="FLOVYN_SERVER_URL",
            show_envvar=True,
            help="The server that --execution asks.",
            show_default="http://localhost:9090",
        ),
    ] = None,
    org: Annotated[
        str | None,
        typer.Option("--org-id", envvar="FLOVYN_ORG_ID", show_envvar=True, help="The organisation's UUID."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="FLOVYN_WORKER_TOKEN", show_envvar=True, help="The key that opens the server."),
    ] = None,
    codecs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:ATTRIBUTE", help="Where the codecs of the payloads are: a codec or a list of them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as a JSON array.")] = False,
) -> None:
    """Replay histories with the code as it is now, and show where the two part.

    Exits with 0 if all are equal, with 1 if a history and the code part, with 2 if one could not be replayed.
    """
    if not executions and not histories:
        raise ConfigurationError("there is nothing to replay: name histories (--history) or executions (--execution)")
    replayer = Replayer([workflow for name in definitions for workflow in _definitions(name)])
    given = [cast("PayloadCodec", codec) for name in codecs or [] for codec in _listed(name)]
    found: list[History | Report] = anyio.run(_read_all, _files(histories or []), given)
    if executions:
        if org is None and not any(map(os.environ.get, PROFILE_VARIABLES)):
            raise ConfigurationError(
                "--execution needs to know the organisation: --org-id, or FLOVYN_ORG_ID, or a profile (FLOVYN_PROFILE)"
            )
        found += anyio.run(_fetch, executions, url, org, token, given)
    reports = [replayer.replay(one) if isinstance(one, History) else one for one in found]
    if as_json:
        print(json.dumps([report.as_data() for report in reports], indent=2))
    else:
        _show(reports)
    raise typer.Exit(max(_EXIT_CODES[report.status] for report in reports))


def _definitions(name: str) -> list[Workflow[..., Any]]:
    """The workflows that a name such as ``shop.orders:place_order`` stands for."""
    return [definition_of(cast("AnyWorkflow[..., Any]", one)) for one in _listed(name)]


def _listed(name: str) -> list[object]:
    """What a name such as ``shop.orders:place_order`` stands for: one thing, or a list of them."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f"{name!r} does not say where it is: write it as shop.orders:place_order")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: object = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ConfigurationError(f"{name!r} cannot be had: {type(error).__name__}: {error}") from error
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise ConfigurationError(f"there is no *.json in the directory {str(path)!r}")
        files += inside
    return files


async def _read_all(paths: list[Path], codecs: list[PayloadCodec]) -> list[History | Report]:
    return [await _read(path, codecs) for path in paths]


async def _read(path: Path, codecs: list[PayloadCodec]) -> History | Report:
    try:
        history = History.read(path)
        return await history.decoded(codecs) if codecs else history
    except FlovynError as error:
        return _unread(str(path), error)


async def _fetch(
    executions: list[str], url: str | None, org: str | None, token: str | None, codecs: list[PayloadCodec]
) -> list[History | Report]:
    found: list[History | Report] = []
    async with connect(url, org_id=org, token=token, codecs=codecs) as client:
        for execution in executions:
            try:
                found.append(await History.fetch(client, execution))
            except FlovynError as error:
                found.append(_unread(execution, error))
    return found


def _unread(source: str, error: FlovynError) -> Report:
    return Report(status="error", workflow_id=None, kind=None, source=source, error=error)


def _show(reports: list[Report]) -> None:
    for report in reports:
        for line in str(report).splitlines():
            typer.secho(line, fg=_COLOURS.get(line[:1]))
        if report.workflow_id is not None:
            typer.echo(report.trace, nl=False)
    counts = Counter(report.status for report in reports)
    said = [_count(counts[status], status) for status in _EXIT_CODES if counts[status]]
    print(", ".join(said))


def _count(number: int, status: Status) -> str:
    return f"{number} {status}" if number == 1 or status == "equal" else f"{number} {status}s"
