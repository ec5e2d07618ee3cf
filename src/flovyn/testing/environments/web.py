"""REST of an environment's server, without a socket; loaded only where something asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2

from flovyn.errors import ConfigurationError
from flovyn.server.web import missing_packages

if TYPE_CHECKING:
    from flovyn.server.shell import Shell
    from flovyn.wire.tally import Tally

__all__ = ["MemoryHttp"]


class MemoryHttp(httpx2.AsyncBaseTransport):
    """Carries requests to a server in the same process.

    Args:
        shell: The server.
        slugs: The id of each organisation, by its slug.
        tally: Counts the requests.

    Raises:
        ConfigurationError: A package is missing.
    """

    def __init__(self, shell: Shell, slugs: dict[str, str], tally: Tally) -> None:
        missing = missing_packages()
        if missing:
            raise ConfigurationError(f"REST in an environment needs {', '.join(missing)}: pip install 'flovyn[server]'")
        from flovyn.server.rest import application

        app: Any = application(shell, slugs)  # the two spell ASGI's types differently
        self._transport = httpx2.ASGITransport(app)
        self._tally = tally

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        with self._tally:
            return await self._transport.handle_async_request(request)
