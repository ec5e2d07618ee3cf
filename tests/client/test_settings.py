"""Where a client connects to, and as whom: what is said in more than one place, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flovyn.client import OAuth2, connect
from flovyn.client.settings import Settings, settled
from flovyn.errors import ConfigurationError
from worker.fakes import ORG

SECRET = "must-not-show"
CONFIG = f"""
[profiles.default]
org_id = "{ORG}"
queue = "from-default"

[profiles.staging]
url = "https://grpc.staging"
http_url = "https://api.staging"
org_id = "{ORG}"
org_slug = "acme"
token = "{SECRET}-token"
api_key = "{SECRET}-key"
queue = "from-staging"

[profiles.cloud]
org_id = "{ORG}"
oauth2 = {{ token_url = "https://id/token", client_id = "shop", client_secret = "{SECRET}", scopes = ["a", "b"] }}

[profiles.both]
org_id = "{ORG}"
token = "{SECRET}"
oauth2 = {{ token_url = "https://id/token", client_id = "shop", client_secret = "{SECRET}" }}

[profiles.strange]
ord_id = "{SECRET}"

[profiles.number]
org_id = 7
"""
OAUTH2 = OAuth2(token_url="https://id/token", client_id="shop", client_secret=SECRET, scopes=("a", "b"))
OAUTH2_ENVIRONMENT = {
    "FLOVYN_OAUTH2_TOKEN_URL": "https://id/token",
    "FLOVYN_OAUTH2_CLIENT_ID": "shop",
    "FLOVYN_OAUTH2_CLIENT_SECRET": SECRET,
    "FLOVYN_OAUTH2_SCOPES": " a  b ",
}
ENVIRONMENT = {
    "FLOVYN_SERVER_URL": "http://env:1",
    "FLOVYN_HTTP_URL": "http://env:2",
    "FLOVYN_ORG_ID": ORG,
    "FLOVYN_ORG_SLUG": "env",
    "FLOVYN_WORKER_TOKEN": "env-token",
    "FLOVYN_API_KEY": "env-key",
    "FLOVYN_QUEUE": "env-queue",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "flovyn.toml"
    path.write_text(CONFIG)
    return path


def test_what_is_left_out_is_the_default() -> None:
    assert settled(Settings(org_id=ORG), environ={}) == Settings(
        url="http://localhost:9090", org_id=ORG, queue="default"
    )


def test_everything_may_come_from_the_environment() -> None:
    assert settled(Settings(), environ=ENVIRONMENT) == Settings(
        url="http://env:1",
        http_url="http://env:2",
        org_id=ORG,
        org_slug="env",
        token="env-token",
        api_key="env-key",
        queue="env-queue",
    )
    assert settled(Settings(org_id=ORG), environ=OAUTH2_ENVIRONMENT).oauth2 == OAUTH2


def test_a_variable_that_is_empty_is_none() -> None:
    assert settled(Settings(org_id=ORG), environ=dict.fromkeys(ENVIRONMENT, "")) == settled(
        Settings(org_id=ORG), environ={}
    )


def test_everything_may_come_from_a_profile(config: Path) -> None:
    assert settled(Settings(), profile="staging", config_file=config, environ={}) == Settings(
        url="https://grpc.staging",
        http_url="https://api.staging",
        org_id=ORG,
        org_slug="acme",
        token=f"{SECRET}-token",
        api_key=f"{SECRET}-key",
        queue="from-staging",
    )
    assert settled(Settings(), profile="cloud", config_file=str(config), environ={}).oauth2 == OAUTH2


def test_arguments_count_before_the_environment_and_that_before_a_profile(config: Path) -> None:
    environ = {"FLOVYN_QUEUE": "env-queue", "FLOVYN_HTTP_URL": "http://env:2"}
    found = settled(Settings(queue="given"), profile="staging", config_file=config, environ=environ)
    assert (found.queue, found.http_url, found.org_slug) == ("given", "http://env:2", "acme")


def test_who_authenticates_in_one_way_is_not_asked_for_the_other(config: Path) -> None:
    found = settled(Settings(token="t"), profile="cloud", config_file=config, environ=OAUTH2_ENVIRONMENT)
    assert (found.token, found.oauth2) == ("t", None)
    found = settled(Settings(oauth2=OAUTH2), profile="staging", config_file=config, environ=ENVIRONMENT)
    assert (found.token, found.oauth2, found.api_key) == (None, OAUTH2, "env-key")


def test_which_profile_and_which_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"FLOVYN_PROFILE": "staging", "FLOVYN_CONFIG_FILE": str(config)}
    assert settled(Settings(), environ=environ).queue == "from-staging"
    assert settled(Settings(), environ=environ, profile="default").queue == "from-default"
    assert settled(Settings(), environ={}, config_file=config).queue == "from-default"
    home = config.parent / "flovyn" / "config.toml"
    home.parent.mkdir()
    config.rename(home)
    environ = {"FLOVYN_PROFILE": "staging", "XDG_CONFIG_HOME": str(config.parent)}
    assert settled(Settings(), environ=environ).queue == "from-staging"
    monkeypatch.setattr(Path, "home", lambda: config.parent / "nobody")
    with pytest.raises(ConfigurationError, match="nobody/.config/flovyn/config.toml cannot be read: No such file"):
        settled(Settings(), profile="staging", environ={})


@pytest.mark.parametrize(
    ("options", "environ", "text"),
    [
        (
            {"profile": "gone"},
            {},
            "there is no profile 'gone' in {}; there are: default, staging, ",
        ),
        ({"profile": "strange"}, {}, "profile 'strange' of {}: Object contains unknown field `ord_id`"),
        ({"profile": "number"}, {}, "profile 'number' of {}: Expected `str | null`, got `int` - at `$.org_id`"),
        (
            {"profile": "both"},
            {},
            "the keys of profile 'both' of {} have both a token and oauth2; which of them",
        ),
        (
            {},
            {"FLOVYN_WORKER_TOKEN": SECRET, **OAUTH2_ENVIRONMENT},
            "the environment variables have both a token and oauth2; which of them is gRPC to use?",
        ),
        (
            {},
            {"FLOVYN_OAUTH2_CLIENT_SECRET": SECRET, "FLOVYN_OAUTH2_CLIENT_ID": "shop"},
            "of the variables FLOVYN_OAUTH2_... some are set, but not FLOVYN_OAUTH2_TOKEN_URL",
        ),
    ],
)
def test_what_makes_no_sense(config: Path, options: dict[str, Any], environ: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled(Settings(), config_file=config, environ=environ, **options)
    assert str(caught.value).startswith(text.replace("{}", str(config)))
    assert SECRET not in str(caught.value)


def test_a_file_that_is_none(config: Path) -> None:
    for text, said in (
        (f'secret = "{SECRET}', f"the configuration file {config} is not TOML: "),
        (f'[profile.default]\ntoken = "{SECRET}"', f"the configuration file {config}: Object contains unknown field"),
        ("", f"the configuration file {config}: Object missing required field `profiles`"),
    ):
        config.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            settled(Settings(), config_file=config, environ={})
        assert str(caught.value).startswith(said)
        assert SECRET not in str(caught.value)


def test_arguments_that_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="^the arguments have both a token and oauth2"):
        settled(Settings(org_id=ORG, token="t", oauth2=OAUTH2), environ={})


def test_without_an_organisation_there_is_nothing_to_connect_to() -> None:
    with pytest.raises(
        ConfigurationError, match="^org_id is missing: pass org_id=... to connect, set FLOVYN_ORG_ID, or"
    ):
        settled(Settings(), environ={})


def test_secrets_are_not_shown() -> None:
    shown = repr(Settings(token=SECRET, api_key=SECRET, oauth2=OAUTH2))
    assert SECRET not in shown
    assert "client_id='shop'" in shown


@pytest.mark.anyio
async def test_connect_takes_all_of_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    async with connect(profile="staging", config_file=config) as client:
        assert (client.org_id, client.queue) == (ORG, "from-staging")
    monkeypatch.setenv("FLOVYN_ORG_ID", ORG.upper())
    async with connect() as client:
        assert (client.org_id, client.queue) == (ORG, "default")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"url": "ftp://x"}, "ftp://x"),
        ({"http_url": "ftp://x"}, "http_url looks like"),
        ({"org_id": "acme"}, "org_id must be a UUID, not 'acme'"),
        ({"token": "a\nb"}, "the token is empty or has characters that cannot be sent"),
        ({"api_key": "a\nb"}, "the token is empty or has characters that cannot be sent"),
        ({"queue": ""}, "queue must not be empty"),
    ]
    for options, text in wrong:
        with pytest.raises(ConfigurationError, match=text):
            async with connect(**options):
                pytest.fail("the block is not entered")
