"""`connect`: a client for the length of a block."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from flovyn.client.client import Client, canonical

if TYPE_CHECKING:
    import os
    import ssl
    import uuid
    from collections.abc import AsyncGenerator, Callable, Iterable

    from flovyn.client.credentials import Tokens
    from flovyn.client.oauth2 import OAuth2
    from flovyn.client.settings import Settings
    from flovyn.definitions import RetryPolicy
    from flovyn.serde.chain import PayloadCodec
    from flovyn.wire.channel import Channel
    from flovyn.wire.options import ChannelOptions
    from flovyn.wire.transport import Transport

__all__ = ["connect"]


@asynccontextmanager
async def connect(  # noqa: PLR0913 - options, each by its name
    url: str | None = None,
    *,
    http_url: str | None = None,
    org_id: str | uuid.UUID | None = None,
    org_slug: str | None = None,
    token: str | None = None,
    api_key: str | None = None,
    oauth2: OAuth2 | None = None,
    queue: str | None = None,
    codecs: Iterable[PayloadCodec] = (),
    retry: RetryPolicy | None = None,
    options: ChannelOptions | None = None,
    ssl_context: ssl.SSLContext | None = None,
    http_ssl_context: ssl.SSLContext | None = None,
    profile: str | None = None,
    config_file: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[Client]:
    """Open a client for the length of a block.

    What is left out of the first eight options is taken from the environment, then from a profile, then it is the
    default. A profile is a table of a TOML file (``[profiles.staging]``) whose keys are these options.

    Args:
        url: Where the server answers gRPC: ``http://host:port`` without encryption, ``https://host:port`` with TLS.
            ``FLOVYN_SERVER_URL``; ``http://localhost:9090`` by default.
        http_url: Where it answers REST, likewise. ``FLOVYN_HTTP_URL``; without it the calls that need REST raise
            `ConfigurationError`.
        org_id: The organisation, a UUID. ``FLOVYN_ORG_ID``.
        org_slug: Its short name, which the REST of the platform takes; the embedded server takes the UUID too, which
            is the default. ``FLOVYN_ORG_SLUG``.
        token: The worker key, for gRPC. ``FLOVYN_WORKER_TOKEN``.
        api_key: The user key, for REST. ``FLOVYN_API_KEY``.
        oauth2: How to get tokens from an OAuth2 provider: for gRPC in place of `token`, and for REST unless there is an
            `api_key`. ``FLOVYN_OAUTH2_TOKEN_URL``, ``..._CLIENT_ID``, ``..._CLIENT_SECRET``, ``..._SCOPES``.
        queue: The queue on which workflows start, and from which workers work, unless they say otherwise.
            ``FLOVYN_QUEUE``; ``default`` by default.
        codecs: What payloads go through before they are sent, in order, and backwards when they are read: compression,
            encryption, storage elsewhere (`flovyn.serde.codecs`). The workers of this client use them too.
        retry: How often calls are made that can be made again when they fail for want of a server: eight times within
            some five seconds if left out. Calls that would act twice are never repeated.
        options: Size limits and keepalive of the connection for gRPC.
        ssl_context: How to verify the server for gRPC, if not by the certificates of the system. It should be a context
            of its own: the ALPN protocols of gRPC are set on it.
        http_ssl_context: The same for REST and for the OAuth2 provider.
        profile: The profile. ``FLOVYN_PROFILE``; ``default`` if there is only a file.
        config_file: Its file. ``FLOVYN_CONFIG_FILE``; ``~/.config/flovyn/config.toml`` if there is only a profile.

    The connections themselves are made by the first calls, and made anew after they were lost.

    Raises:
        ConfigurationError: A URL, the organisation or a combination of the options cannot work; there is no such file
            or profile; or two codecs have one name.

    Example:
        ```python
        async with flovyn.connect("http://localhost:9090", org_id=org_id, token=token) as client:
            handle = await client.start(place_order, order)
            print(await handle.result())
        ```
    """
    # Whatever speaks the protocol, or reads files, is loaded only by those who connect.
    from flovyn.client.credentials import Fixed, Tokens
    from flovyn.client.http import Http, checked_url
    from flovyn.client.rest import Rest
    from flovyn.client.retries import CALLS
    from flovyn.client.settings import Settings, settled
    from flovyn.wire.channel import Channel

    given = Settings(
        url=url,
        http_url=http_url,
        org_id=None if org_id is None else str(org_id),
        org_slug=org_slug,
        token=token,
        api_key=api_key,
        oauth2=oauth2,
        queue=queue,
    )
    settings = settled(given, profile=profile, config_file=config_file)
    assert settings.url is not None
    assert settings.org_id is not None
    http = Http(ssl_context=http_ssl_context)
    tokens = None if settings.oauth2 is None else Tokens(settings.oauth2, http)
    dial = partial(_dial, partial(Channel, settings.url, ssl_context=ssl_context, options=options), settings, tokens)
    credential = tokens if settings.api_key is None and tokens is not None else Fixed(settings.api_key)
    base = None if settings.http_url is None else checked_url("http_url", settings.http_url)
    org = canonical(settings.org_id)
    rest = Rest(http, base, settings.org_slug or org, credential, CALLS if retry is None else retry)
    channel = dial()
    async with http, channel as transport:
        yield Client(
            transport, org_id=org, queue=settings.queue or "", dial=dial, codecs=codecs, rest=rest, retry=retry
        )


def _dial(
    channel: Callable[..., Channel], settings: Settings, tokens: Tokens | None
) -> AbstractAsyncContextManager[Transport]:
    if tokens is None:
        return channel(token=settings.token)
    return _authorized(channel(), tokens)


@asynccontextmanager
async def _authorized(channel: Channel, tokens: Tokens) -> AsyncGenerator[Transport]:
    from flovyn.client.authorized import AuthorizedTransport

    async with channel:
        yield AuthorizedTransport(channel, tokens)
