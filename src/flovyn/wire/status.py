"""gRPC status codes and Flovyn's errors, both ways."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from grpclib.const import Status

from flovyn import errors

__all__ = ["error_for_http_status", "error_for_status", "status_for_error", "status_message"]

_CLASSES: dict[Status, type[errors.ServerError]] = {
    Status.INVALID_ARGUMENT: errors.InvalidArgument,
    Status.NOT_FOUND: errors.NotFound,
    Status.ALREADY_EXISTS: errors.AlreadyExists,
    Status.FAILED_PRECONDITION: errors.FailedPrecondition,
    Status.PERMISSION_DENIED: errors.PermissionDenied,
    Status.UNAUTHENTICATED: errors.Unauthenticated,
    Status.UNIMPLEMENTED: errors.Unimplemented,
    Status.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    Status.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
}
_HTTP: dict[str, Status] = {
    "400": Status.INTERNAL,
    "401": Status.UNAUTHENTICATED,
    "403": Status.PERMISSION_DENIED,
    "404": Status.UNIMPLEMENTED,
    "429": Status.UNAVAILABLE,
    "503": Status.UNAVAILABLE,
}


def error_for_status(code: int, message: str) -> errors.FlovynError:
    """The error that a client raises for a status other than OK.

    Args:
        code: The number in ``grpc-status``; numbers that gRPC does not define count as UNKNOWN, as it demands.
        message: The server's text.
    """
    try:
        status = Status(code)
    except ValueError:
        status = Status.UNKNOWN
        message = f"{message} (status {code})" if message else f"status {code}"
    text = message or f"the server answered {status.name} without a text"
    if status is Status.UNAVAILABLE:
        return errors.ServerUnavailable(text)
    if status in _CLASSES:
        return _CLASSES[status](text)
    return errors.ServerError(text, status=status.name)


def error_for_http_status(http_status: str) -> errors.FlovynError:
    """The error for an answer that comes from something before the gRPC server, such as a proxy."""
    text = f"the server answered with HTTP status {http_status} instead of gRPC"
    if http_status in ("502", "504"):
        # gRPC says UNAVAILABLE, but a gateway that lost the server may have passed the call on before.
        return errors.ConnectionLost(f"{text}; the call may have taken effect")
    status = _HTTP.get(http_status, Status.UNKNOWN)
    return error_for_status(status.value, text)


def status_for_error(error: errors.FlovynError) -> tuple[Status, str]:
    """How a server says `error`: its status and text."""
    if isinstance(error, errors.ServerError):
        return Status.__members__.get(error.status, Status.UNKNOWN), error.message
    if isinstance(error, errors.PayloadTooLarge):
        return Status.RESOURCE_EXHAUSTED, error.message
    if isinstance(error, errors.MalformedMessage):
        return Status.INVALID_ARGUMENT, error.message
    if isinstance(error, errors.ServerUnavailable):
        return Status.UNAVAILABLE, error.message
    return Status.INTERNAL, "Internal server error"


def status_message(header: str | None) -> str:
    """Reads a ``grpc-message`` header: percent-encoded UTF-8, or what careless servers send raw."""
    if not header:
        return ""
    return unquote_to_bytes(header.encode("latin-1", "replace")).decode("utf-8", "replace")
