"""The tables of the server's page say what the server does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from docs.server_tables import PAGE, TABLES, between
from docs.test_examples import blocks
from flovyn.cli.root import app
from flovyn.server.config import load


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_what_the_server_does(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    start, stop = between(text, name)
    assert text[start:stop] == f"\n{TABLES[name]()}\n", "run python tests/docs/server_tables.py"


def test_the_config_file_of_the_page_is_one(tmp_path: Path) -> None:
    (toml,) = [block.body for block in blocks(PAGE) if block.language == "toml"]
    file = tmp_path / "flovyn.toml"
    file.write_text(toml, encoding="utf-8")
    settings = load(str(file), {})
    assert (settings.http_port, settings.grpc_port, settings.db) == (8000, 9090, "flovyn.db")
    assert settings.access is not None
    assert [(org.slug, org.name) for org in settings.access.orgs] == [("acme", "Acme Ltd")]
    assert [key.type for key in settings.access.keys] == ["Worker", "User"]


def test_every_option_of_the_command_is_on_the_page() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    names = {name for parameter in command.commands["server"].params for name in parameter.opts} - {"--help"}
    assert names == set(re.findall(r"`(--[a-z-]+)", "".join(re.findall(r"^\| `--.*$", PAGE.read_text(), re.MULTILINE))))
