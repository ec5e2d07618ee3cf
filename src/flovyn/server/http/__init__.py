"""HTTP for an ASGI application: Hypercorn's protocols, run in task groups of our own on asyncio and on trio.

Hypercorn's own workers keep their connections in tasks that no task group owns, one for each event loop. Its protocols
know no loop: they ask a worker for tasks, events and time, and that is what stands here, once, over AnyIO.
"""

from __future__ import annotations

from flovyn.server.http.server import HttpServer

__all__ = ["HttpServer"]
