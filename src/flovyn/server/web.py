"""HTTP beside gRPC, if it is wanted: only then is anything of it imported."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    from flovyn.server.auth import Access
    from flovyn.server.http import HttpServer
    from flovyn.server.shell import Shell

__all__ = ["build", "missing_packages"]

_PACKAGES: Final = ("hypercorn", "jsonschema", "starlette")


def missing_packages() -> list[str]:
    """Which of the packages that HTTP needs are not installed."""
    return [name for name in _PACKAGES if find_spec(name) is None]


def build(shell: Shell, access: Access) -> HttpServer:
    """What answers REST.

    Raises:
        ConfigurationError: A package is missing.
    """
    missing = missing_packages()
    if missing:
        raise ConfigurationError(f"HTTP needs {', '.join(missing)}: pip install 'flovyn[server]', or turn HTTP off")
    from flovyn.server.http import HttpServer
    from flovyn.server.rest import application

    app: Any = application(shell, {org.slug: org.id for org in access.orgs})  # the two spell ASGI's types differently
    return HttpServer(app)
