"""The OpenAPI 3.0 document, made of the route table and of the types that its bodies are read and written with."""

from __future__ import annotations

import functools
import html
import inspect
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flovyn.server.rest.refusals import MEANINGS
from flovyn.server.rest.route import Nothing, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flovyn.server.rest.route import Route

__all__ = ["document", "page"]

_NULL: Final = {"type": "null"}
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)(?::path)?\}")
_ALWAYS: Final = (400, 401, 403, 404, 408, 413, 415, 503)


@functools.cache
def document() -> bytes:
    """The document as JSON."""
    from flovyn.server.rest.table import ROUTES

    types = _types(ROUTES)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(map(_key, types), map(_for_openapi, schemas), strict=True))
    paths: dict[str, dict[str, Any]] = {}
    inline = {_name(schema_of[_key(route.query)]) for route in ROUTES}
    for route in ROUTES:
        where = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(where, {})[route.method.lower()] = _operation(route, schema_of, components)
    return msgspec.json.encode(
        {
            "openapi": "3.0.3",
            "info": {
                "title": "Flovyn",
                "version": version("flovyn"),
                "description": "The REST interface of the embedded Flovyn server. Lists carry no payloads: ask for one "
                "execution, or for its history.",
            },
            "paths": paths,
            "components": {
                "schemas": {n: _for_openapi(schema) for n, schema in components.items() if n not in inline},
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"key": []}],
        }
    )


def _types(routes: Iterable[Route[Any, Any]]) -> list[Any]:
    found: dict[str, Any] = {_key(Refusal): Refusal}
    for route in routes:
        for wanted in (route.query, route.body, *route.answers.values()):
            if wanted is not None:
                found.setdefault(_key(wanted), wanted)
    return list(found.values())


def _name(schema: dict[str, Any]) -> str:
    reference: str = schema["$ref"]
    return reference.rpartition("/")[2]


def _key(wanted: Any) -> str:
    return repr(wanted)


def _operation(
    route: Route[Any, Any], schema_of: dict[str, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "tags": [route.tag]}
    parameters = _path_parameters(route)
    if route.query is not Nothing:
        parameters += _query_parameters(components[_name(schema_of[_key(route.query)])])
    if parameters:
        operation["parameters"] = parameters
    if route.body is not Nothing:
        required = any(field.required for field in msgspec.structs.fields(route.body))
        content = {"application/json": {"schema": schema_of[_key(route.body)]}}
        operation["requestBody"] = {"required": required, "content": content}
    responses: dict[str, Any] = {}
    for status, body in route.answers.items():
        responses[str(status)] = {"description": route.summary}
        if body is not None:
            responses[str(status)]["content"] = {route.content: {"schema": schema_of[_key(body)]}}
    refusal = {"application/json": {"schema": schema_of[_key(Refusal)]}}
    for status, meaning in sorted(_refusals(route).items()):
        responses[str(status)] = {"description": meaning, "content": refusal}
    operation["responses"] = responses
    if route.public:
        operation["security"] = []
    return operation


def _refusals(route: Route[Any, Any]) -> dict[int, str]:
    always = (400, 408, 413, 415) if route.public else _ALWAYS
    return {status: MEANINGS[status] for status in always} | dict(route.refuses)


def _path_parameters(route: Route[Any, Any]) -> list[dict[str, Any]]:
    described = {"org": "The organisation's slug or its UUID."}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            **({"description": described[name]} if name in described else {}),
        }
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(shape: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name, wanted in shape["properties"].items():
        schema = _without_null(wanted)
        text = schema.pop("description", None)
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in shape.get("required", ()),
                "schema": _for_openapi(schema),
                **({"description": text} if text else {}),
            }
        )
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not wanted is left out; there is no way to write null."""
    options = [option for option in schema.get("anyOf", ()) if option != _NULL]
    schema = {key: value for key, value in schema.items() if key != "anyOf"} | (dict(options[0]) if options else {})
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    return schema


def _for_openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema of today in the words of OpenAPI 3.0."""
    schema = dict(schema)
    options: list[dict[str, Any]] = schema.pop("anyOf", [])
    nullable = _NULL in options
    options = [option for option in options if option != _NULL]
    if len(options) == 1:
        only = options[0]
        schema |= {"allOf": [only]} if "$ref" in only else only
    elif options:
        schema["anyOf"] = list(map(_for_openapi, options))
    if nullable:
        schema["nullable"] = True
    if "examples" in schema:
        schema["example"] = schema.pop("examples")[0]
    if "enum" in schema:
        schema["type"] = "string"
        schema["enum"] = [*schema["enum"], *([None] if nullable else [])]
    if "description" in schema:
        schema["description"] = inspect.cleandoc(schema["description"])
    if not schema.get("required", True):
        del schema["required"]
    if "properties" in schema:
        schema["properties"] = {name: _for_openapi(inner) for name, inner in schema["properties"].items()}
    for nested in ("items", "additionalProperties"):
        if isinstance(schema.get(nested), dict):
            schema[nested] = _for_openapi(schema[nested])
    return schema


@functools.cache
def page() -> bytes:
    """The document as a page that needs nothing from anywhere else."""
    described = msgspec.json.decode(document())
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>\n"
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    )
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>Flovyn</title>\n"
        "<style>body{font:15px sans-serif;margin:2em}td{padding:.2em .8em .2em 0;vertical-align:top}</style>\n"
        f"<h1>Flovyn {described['info']['version']}</h1>\n<p>{html.escape(described['info']['description'])}</p>\n"
        '<p>Bodies and refusals: <a href="/api/docs/openapi.json">the OpenAPI document</a>.</p>\n'
        f"<table>\n{rows}</table>\n</html>\n"
    ).encode()
