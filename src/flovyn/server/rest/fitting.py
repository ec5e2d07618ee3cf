"""Whether an input fits the schema that a worker has registered for it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from flovyn.errors import InvalidArgument
from flovyn.server import limits
from flovyn.server.engine import validation

if TYPE_CHECKING:
    from flovyn.server.engine import Caller, Engine
    from flovyn.server.store.workers import Of

__all__ = ["Schemas"]

_log = logging.getLogger("flovyn.server")


class Schemas:
    """The schemas that workers have registered, compiled when they are needed first."""

    def __init__(self, engine: Engine) -> None:
        self._definitions = engine.definitions
        self._compiled = lru_cache(maxsize=limits.SCHEMAS_KEPT)(_compile)

    def check(
        self, caller: Caller, of: Of, kind: str, payload: bytes, *, version: str | None = None, field: str = "input"
    ) -> None:
        """Refuse an input that does not fit; a kind without a schema takes any.

        What a client's codecs have encoded cannot be checked here: the worker that decodes it will see.

        Raises:
            InvalidArgument: It does not fit; the message says where in it.
        """
        schema = self._definitions.input_schema(caller, of, kind, version)
        validator = None if schema is None else self._compiled(schema, kind)
        if validator is None:
            return
        value = _value(payload)
        if value is None:
            return
        from jsonschema import exceptions

        library: Any = exceptions  # which has no types
        try:
            fault = library.best_match(validator.iter_errors(msgspec.json.decode(value)))
        except RecursionError:
            raise InvalidArgument(f"{field} is nested too deeply to be checked against its schema") from None
        except Exception as error:  # noqa: BLE001 - a reference to nowhere, a pattern that is none, and what else there is
            _complain(kind, error)
            return
        if fault is not None:
            what = _shortened(fault.message)
            raise InvalidArgument(
                f"{field} does not fit the schema of {validation.shown(kind)} at {fault.json_path}: {what}"
            )


class _Body(msgspec.Struct):
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    encoded: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Reserved(msgspec.Struct, forbid_unknown_fields=True):
    """The one object that is not the value that it seems."""

    body: _Body = msgspec.field(name="$flovyn")


def _value(payload: bytes) -> bytes | msgspec.Raw | None:
    """The value that a payload is; None if it is encoded."""
    try:
        body = msgspec.json.decode(payload, type=_Reserved).body
    except msgspec.ValidationError:
        return payload
    if not isinstance(body.encoded, msgspec.UnsetType):
        return None
    return payload if isinstance(body.value, msgspec.UnsetType) else body.value


def _compile(schema: bytes, kind: str) -> Any:
    """What checks values against a schema, or None if it is none. References lead nowhere but into the schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    try:
        decoded = msgspec.json.decode(schema)
        validator: Any = validator_for(decoded, default=Draft202012Validator)
        validator.check_schema(decoded)
    except Exception as error:  # noqa: BLE001 - a worker may have registered anything
        _complain(kind, error)
        return None
    return validator(decoded, registry=EMPTY_REGISTRY)


def _complain(kind: str, error: Exception) -> None:
    text = _shortened(str(getattr(error, "message", error)))
    _log.warning("the input schema of %r cannot be used, so nothing is checked against it: %s", kind, text)


def _shortened(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
