"""`connect`: a client for the length of a block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from anyio.from_thread import start_blocking_portal

from flovyn import client as asynchronous
from flovyn.blocking.client import Client
from flovyn.blocking.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Unpack

    from flovyn.client import ConnectOptions

__all__ = ["connect"]


@contextmanager
def connect(
    url: str | None = None,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    backend_options: Mapping[str, Any] | None = None,
    **options: Unpack[ConnectOptions],
) -> Generator[Client]:
    """Open a client for the length of a block, in a program that is not asynchronous.

    Args:
        url: Where the server answers gRPC, as for `flovyn.connect`.
        backend: What the event loop is made of.
        backend_options: Its options, as `anyio.run` takes them: ``{"use_uvloop": True}``.
        options: All further options of `flovyn.connect`.

    Raises:
        ConfigurationError: As for `flovyn.connect`.

    Example:
        ```python
        with flovyn.blocking.connect("http://localhost:9090", org_id=org_id, token=token) as client:
            print(client.execute(place_order, order))
        ```
    """
    with (
        start_blocking_portal(backend, None if backend_options is None else dict(backend_options)) as portal,
        portal.wrap_async_context_manager(asynchronous.connect(url, **options)) as client,
    ):
        yield Client(Portal(portal), client)
