"""REST: a route table, one module for each resource, and what turns requests into steps of the engine.

Everything here is imported only when HTTP is served: it needs the packages of the extra `server`.
"""

from __future__ import annotations

from flovyn.server.rest.application import application

__all__ = ["application"]
