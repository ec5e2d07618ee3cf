"""The server's side of the wire: gRPC over AnyIO, in the caller's own nursery.

A server is a table of methods (`Routes`) and one call that never returns (`serve`).
"""

from __future__ import annotations

from flovyn.server.acceptor.drain import Drain
from flovyn.server.acceptor.options import AcceptorOptions
from flovyn.server.acceptor.routes import Call, Peer, Routes
from flovyn.server.acceptor.serving import serve

__all__ = ["AcceptorOptions", "Call", "Drain", "Peer", "Routes", "serve"]
