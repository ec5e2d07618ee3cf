"""What a file and the environment may say, and what is answered to what they may not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from flovyn.errors import ConfigurationError
from flovyn.server import Access, Key, Org
from flovyn.server.auth import Keys, Principal
from flovyn.server.config import load
from flovyn.server.config.settings import KNOWN, TOLERATED

ORG = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
OTHER = "6ba7b811-9dad-41d1-80b4-00c04fd430c8"

HARNESS = f"""
[[orgs]]
id = "{ORG}"
name = "Test Organization"
slug = "test-1a2b3c4d"
tier = "FREE"

[auth]
enabled = true

[auth.static_api_key]
keys = [
  {{ key = "flovyn_sk_test_1", org_id = "{ORG}", principal_type = "User", principal_id = "api:test", role = "ADMIN" }},
  {{ key = "flovyn_wk_test_1", org_id = "{ORG}", principal_type = "Worker", principal_id = "worker:test" }},
]

[auth.endpoints.http]
authenticators = ["static_api_key"]
authorizer = "cedar"
exclude_paths = ["/_/health", "/api/docs"]

[auth.endpoints.grpc]
authenticators = ["static_api_key"]
authorizer = "cedar"
"""

HARNESS_ENVIRONMENT = {
    "DATABASE_URL": "postgres://flovyn:secret@localhost/flovyn",
    "NATS__ENABLED": "true",
    "NATS__URL": "nats://localhost:4222",
    "SERVER_PORT": "8000",
    "GRPC_SERVER_PORT": "9090",
    "PATH": "/usr/bin",
    "SOME__THING": "else",
}


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_configuration_of_the_platforms_harness_is_understood(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {**HARNESS_ENVIRONMENT, "CONFIG_FILE": written(tmp_path, HARNESS)}
    settings = load(None, environment)
    assert (settings.http_port, settings.grpc_port, settings.db, settings.host) == (8000, 9090, None, None)
    assert settings.access is not None
    assert settings.access.orgs == (Org(ORG, "test-1a2b3c4d", "Test Organization", "FREE"),)
    assert settings.access.keys == (
        Key("flovyn_sk_test_1", ORG, "User", "api:test"),
        Key("flovyn_wk_test_1", ORG, "Worker", "worker:test"),
    )
    assert caplog.messages == [
        "environment variable DATABASE_URL: database_url is not used: this server keeps everything in its SQLite file",
        "environment variable NATS__ENABLED: nats is not used: this server needs no message broker",
    ]
    assert "secret" not in caplog.text


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'server_port = 1\ngrpc_server_port = 2\nhost = "0.0.0.0"\ndb = "a.db"\n'
        'durability = "full"\nworker_timeout = 30\n',
    )
    settings = load(file, {"SERVER_PORT": "3", "CONFIG_FILE": "/nowhere"})
    assert (settings.http_port, settings.grpc_port, settings.host, settings.db) == (3, 2, "0.0.0.0", "a.db")
    assert (settings.durability, settings.worker_timeout, settings.access) == ("full", 30.0, None)


@pytest.mark.parametrize(
    ("url", "db"),
    [("sqlite:///data/a.db", "data/a.db"), ("sqlite:////data/a.db", "/data/a.db"), ("sqlite://", ":memory:")],
)
def test_a_database_url_may_name_the_sqlite_file(url: str, db: str, caplog: pytest.LogCaptureFixture) -> None:
    assert load(None, {"DATABASE_URL": url}).db == db
    assert caplog.messages == []


def test_keys_may_come_from_the_environment_too(tmp_path: Path) -> None:
    file = written(tmp_path, f'[[orgs]]\nid = "{ORG}"')
    keys = f'[{{key = "k", org_id = "{ORG}", principal_type = "User"}}]'
    access = load(file, {"AUTH__STATIC_API_KEY__KEYS": keys}).access
    assert access is not None
    assert access.orgs == (Org(ORG, "org-6ba7b810", "org-6ba7b810"),)
    assert access.keys == (Key("k", ORG, "User"),)


def test_nothing_said_is_nothing_set() -> None:
    settings = load(None, {})
    assert {getattr(settings, name) for name in type(settings).__dataclass_fields__} == {None}


ORGS = f'[[orgs]]\nid = "{ORG}"\n'


def keys(**fields: Any) -> str:
    table = {"key": "hidden-secret", "org_id": ORG, "principal_type": "User", **fields}
    shown = ", ".join(f"{name} = {value!r}" for name, value in table.items() if value is not None)
    return f"{ORGS}[auth.static_api_key]\nkeys = [{{ {shown} }}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server_port = 'x'", "server_port is 'x'; it must be a port between 0 and 65535"),
        ("server_port = true", "server_port is True; it must be a port between 0 and 65535"),
        ("grpc_server_port = 70000", "grpc_server_port is 70000; it must be between 0 and 65535"),
        ("host = 1", "host is 1; it must be a text"),
        ("db = 1", "db is 1; it must be the name of a file"),
        ("durability = 'some'", "durability is 'some'; it must be 'normal' or 'full'"),
        ("worker_timeout = 'long'", "worker_timeout is 'long'; it must be a number of seconds"),
        (
            "database_url = 'mysql://u:hidden-secret@h/d'",
            "database_url has the scheme 'mysql'; give a file as sqlite:///path",
        ),
        ("database_url = 7", "database_url is a int; it must be a text"),
        ("db = 'a'\ndatabase_url = 'sqlite:///b'", "database_url stands beside db; give one of them"),
        ("serverport = 1", "serverport is not known to this server, which ignores nothing: remove it"),
        ("[auth.jwt]\nsecret = 'hidden-secret'", "auth.jwt.secret is not known to this server"),
        ("[auth.jwt]", "auth.jwt is not known to this server"),
        ("[auth.better_auth]\nurl = 'u'", "auth.better_auth.url is not known"),
        ("[auth]\nenabled = false", "auth.enabled is false: this server is never open to all"),
        ("[auth]\nenabled = 'no'", "auth.enabled is 'no'; it must be true"),
        ("[auth.endpoints.http]\nauthenticators = []", "auth.endpoints.http.authenticators is []; this server knows"),
        (
            "[auth.endpoints.grpc]\nauthenticators = ['jwt']",
            "auth.endpoints.grpc.authenticators is ['jwt']; this server",
        ),
        (
            "[auth.endpoints.grpc]\nauthenticators = [1]",
            "auth.endpoints.grpc.authenticators is [1]; it must be a list of",
        ),
        (
            "[auth.endpoints.grpc]\nauthenticators = 'x'",
            "auth.endpoints.grpc.authenticators is 'x'; it must be a list of",
        ),
        (
            "[auth.endpoints.http]\nauthorizer = 'none'",
            "auth.endpoints.http.authorizer is 'none'; this server knows the",
        ),
        ("[auth.endpoints.http]\nexclude_paths = ['/api/orgs']", "names '/api/orgs', but only what begins with /_/ or"),
        ("[auth.endpoints.grpc]\nexclude_paths = ['/x']", "names '/x', but no RPC is open to callers without a key"),
        (ORGS, "auth.static_api_key.keys is missing; name organisations and keys"),
        ("[auth.static_api_key]\nkeys = []", "orgs is missing; name organisations and keys"),
        ("orgs = 7\n[auth.static_api_key]\nkeys = []", "orgs must be a list of tables"),
        ("orgs = [7]\n[auth.static_api_key]\nkeys = []", "orgs must be a list of tables, which item 0 is not"),
        ("orgs = []\n[auth.static_api_key]\nkeys = []", "a server needs at least one organisation"),
        (f"{ORGS}[auth.static_api_key]\nkeys = []", "a server needs at least one key"),
        (
            f"{ORGS}colour = 'red'\n[auth.static_api_key]\nkeys = []",
            "orgs[0].colour is not known to this server; a table has",
        ),
        (f"{ORGS}slug = 1\n[auth.static_api_key]\nkeys = []", "orgs[0].slug is a int; it must be a text"),
        ("[[orgs]]\nslug = 'a'\n[auth.static_api_key]\nkeys = []", "orgs has a table without an id"),
        ("[[orgs]]\nid = 'acme'\n[auth.static_api_key]\nkeys = []", "the organisation 'acme' is not a UUID"),
        (f"{ORGS}slug = 'A b'\n[auth.static_api_key]\nkeys = []", "the slug 'A b' of organisation"),
        (f"{ORGS}{ORGS}[auth.static_api_key]\nkeys = []", f"two organisations have the id '{ORG}'; give each its own"),
        (keys(org_id=OTHER), f"a key is of the organisation {OTHER}, which is not listed"),
        (keys(org_id=None), "auth.static_api_key.keys has a table without org_id"),
        (keys(key=None), "auth.static_api_key.keys has a table without key"),
        (keys(key=7), "auth.static_api_key.keys[0].key is a int; it must be a text"),
        (keys(key=""), "none may be empty or have characters that no header carries"),
        (keys(principal_type="Robot"), "keys[0].principal_type is 'Robot'; it must be 'User' or 'Worker'"),
        (keys(role="MEMBER"), "keys[0].role is 'MEMBER'; keys are not restricted here"),
        (keys(colour="red"), "auth.static_api_key.keys[0].colour is not known to this server"),
    ],
)
def test_what_cannot_be_honoured_is_said_with_its_place_and_without_secrets(
    tmp_path: Path, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, text)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
        load(file, {})
    assert caught.value.message.startswith(f"{file}: ")
    assert said in caught.value.message
    assert "hidden-secret" not in caught.value.message + caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SERVER_PORT", "http", "environment variable SERVER_PORT: server_port is 'http'; it must be a port"),
        ("AUTH__JWT__SECRET", "hidden-secret", "environment variable AUTH__JWT__SECRET: auth.jwt.secret is not known"),
        ("AUTH__ENABLED", "false", "environment variable AUTH__ENABLED: auth.enabled is false"),
    ],
)
def test_the_environment_is_complained_of_by_its_name(variable: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {variable: value})
    assert caught.value.message.startswith(said)
    assert "hidden-secret" not in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the config file '.*/none.toml': No such file"):
        load(str(tmp_path / "none.toml"), {})
    with pytest.raises(ConfigurationError, match=r"the config file '.*config.toml' is not TOML: "):
        load(written(tmp_path, "a = "), {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=r"the config file '.*latin.toml' is not UTF-8: "):
        load(str(tmp_path / "latin.toml"), {})


def test_the_table_of_keys_is_complete() -> None:
    assert set(TOLERATED) - set(KNOWN) == {"metrics", "nats", "otel"}


# --- keys -----------------------------------------------------------------------------------


def test_no_secret_is_shown() -> None:
    key = Key("hidden-secret", ORG, "User")
    access = Access([Org(ORG)], [key])
    for shown in (repr(key), repr(access), repr(Keys([key])), str(vars(Keys([key])))):
        assert "hidden-secret" not in shown


def test_a_key_may_be_of_both_sorts_but_not_of_two_organisations() -> None:
    both = Keys([Key("k", ORG, "User", "ada"), Key("k", ORG, "Worker", "w")])
    assert both.principal("Bearer k") == Principal(ORG, frozenset({"User", "Worker"}), "ada")
    with pytest.raises(ConfigurationError, match=f"one key is listed for the organisations {ORG} and {OTHER}"):
        Keys([Key("k", ORG, "User"), Key("k", OTHER, "User")])
    with pytest.raises(ConfigurationError, match="a key of the type 'Robot': it must be 'User' or 'Worker'"):
        Access([Org(ORG)], [Key("k", ORG, "Robot")])  # type: ignore[arg-type]
