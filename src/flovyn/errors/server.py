"""The server's refusals, one class for each kind, and calls that got no sensible answer."""

from __future__ import annotations

from flovyn.errors.base import FlovynError

__all__ = [
    "AlreadyExists",
    "ConnectionLost",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidArgument",
    "MalformedMessage",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "ServerError",
    "ServerUnavailable",
    "TokenRefused",
    "TransportError",
    "Unauthenticated",
    "Unimplemented",
]


class ServerError(FlovynError):
    """The server refused the call.

    Args:
        message: The server's own text.
        status: The name of the gRPC status, such as ``NOT_FOUND``.
    """

    status: str = "UNKNOWN"

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class InvalidArgument(ServerError):
    """A field of the request does not make sense to the server."""

    status = "INVALID_ARGUMENT"


class NotFound(ServerError):
    """The server knows no such execution, task, promise or worker."""

    status = "NOT_FOUND"


class AlreadyExists(ServerError):
    """What was to be created is there already."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(ServerError):
    """The thing exists, but not in a state that allows the call (ended, cancelled, claimed by another)."""

    status = "FAILED_PRECONDITION"


class PermissionDenied(ServerError):
    """The token is good, but not for this."""

    status = "PERMISSION_DENIED"


class Unauthenticated(ServerError):
    """The server does not accept the token."""

    status = "UNAUTHENTICATED"


class TokenRefused(Unauthenticated):
    """The token endpoint of an OAuth2 provider gives no token.

    Args:
        message: Which endpoint, and what it said.
        error: Its error code, such as ``invalid_client``.
        description: Its text about that, if it gave one.
    """

    def __init__(self, message: str, *, error: str, description: str | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.description = description


class Unimplemented(ServerError):
    """The server does not offer this call."""

    status = "UNIMPLEMENTED"


class ResourceExhausted(ServerError):
    """The server does not take so much: a message is over its limit, or there are too many of them."""

    status = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(ServerError):
    """The server gave up on the call."""

    status = "DEADLINE_EXCEEDED"


# --- the connection -------------------------------------------------------------------------


class TransportError(FlovynError):
    """No sensible answer came; the message says whether the call may have taken effect."""


class ServerUnavailable(TransportError):
    """The server could not be reached, or said that it cannot serve now. The call had no effect."""


class ConnectionLost(TransportError):
    """The connection broke while the call was under way. The call may have taken effect."""


class MalformedMessage(TransportError):
    """The peer sent bytes that are not a valid message of the protocol."""
