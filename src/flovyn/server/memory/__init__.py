"""The wire without a network: calls of this process to a server in this process.

`Memory` is to a table of routes what the acceptor is, and `MemoryChannel` is to a caller what a channel is. What a call
says goes through the same coding, limits, metadata and statuses on its way, so that nothing of it is shared between the
two sides; only the connection in between is missing.
"""

from __future__ import annotations

from flovyn.server.memory.channel import MemoryChannel
from flovyn.server.memory.memory import Memory

__all__ = ["Memory", "MemoryChannel"]
