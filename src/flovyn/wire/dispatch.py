"""grpclib's event hooks, of which this package uses none."""

from __future__ import annotations

from typing import Any

__all__ = ["NoListeners"]


class NoListeners:
    """Takes the place of grpclib's dispatchers and hands everything back as it came."""

    async def recv_initial_metadata(self, metadata: Any) -> tuple[Any]:
        return (metadata,)

    async def recv_trailing_metadata(self, metadata: Any, **_status: Any) -> tuple[Any]:
        return (metadata,)

    async def send_initial_metadata(self, metadata: Any) -> tuple[Any]:
        return (metadata,)

    async def send_trailing_metadata(self, metadata: Any, **_status: Any) -> tuple[Any]:
        return (metadata,)
