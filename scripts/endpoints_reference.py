"""Writes ``docs/reference/endpoints.md`` from the table of endpoints; a test compares the two.

python scripts/endpoints_reference.py            # write it
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from assistants_server.routes.endpoints import Endpoint
from assistants_server.routes.openapi import document
from assistants_server.routes.table import ENDPOINTS

PAGE = Path(__file__).parents[1] / "docs/reference/endpoints.md"

HEAD = """\
# Endpoints

Written by `scripts/endpoints_reference.py` from the server's own table. The same table answers
`GET /openapi.json`.

Every path under `/v1` takes a key as `Authorization: Bearer …`; those of assistants and threads
also want `OpenAI-Beta: assistants=v2`, which the official SDKs send. Success is always `200`.
Refusals are described in [errors](errors.md), streams in [events](events.md), what goes beyond
OpenAI's API in [extensions](extensions.md).

Fields that are not required may be left out or be `null`. On a creation that means "the default",
on a run "the assistant's"; on a modification `null` clears and absence keeps.
"""

OBJECTS = """
## Objects

What is answered, key by key in this order. Every key is always present, unless it is marked. Times
are Unix seconds. A page of a list is
`{"object": "list", "data": […], "first_id", "last_id", "has_more"}`.
"""


def page() -> str:
    schemas = document(ENDPOINTS)["components"]["schemas"]
    text = HEAD + "".join(_endpoint(endpoint, schemas) for endpoint in ENDPOINTS) + OBJECTS
    for name, schema in schemas.items():
        if name.endswith("Object"):
            text += f"\n### {name}\n\n| key | value |\n|---|---|\n" + _keys(schema, schemas)
    return text


def _keys(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Every one is always there, unless it is said to be optional."""
    required = set(schema["required"])
    return "".join(
        f"| `{name}`{'' if name in required else ' (optional)'} "
        f"| {_value(field, schemas, named=True)}{_or_null(field)} |\n"
        for name, field in schema["properties"].items()
    )


def _or_null(schema: dict[str, Any]) -> str:
    null = any(one.get("type") == "null" for one in schema.get("anyOf", ()))
    return " or `null`" if null else ""


def _endpoint(endpoint: Endpoint, schemas: dict[str, Any]) -> str:
    text = f"\n## {endpoint.method} {endpoint.path.replace(':path', '')}\n\n"
    text += f"{endpoint.summary} Answers: {endpoint.answer}{_returned(endpoint)}\n"
    if not endpoint.beta and not endpoint.open:
        text += "No beta header is needed.\n"
    elif endpoint.open:
        text += "No key is needed.\n"
    query = endpoint.query.model_json_schema()
    if query.get("properties"):
        text += "\n| query | value |\n|---|---|\n" + _rows(query, query.get("$defs", {}))
    if endpoint.body is not None:
        schema = schemas[endpoint.body.__name__]
        text += "\n| body | value |\n|---|---|\n" + _rows(schema, schemas)
    return text


def _returned(endpoint: Endpoint) -> str:
    if endpoint.returns is None:
        return ""
    (name,) = re.findall(r"\w+Object", str(endpoint.returns))
    return f" ([{name}](#{name.lower()}))"


def _rows(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    return "".join(
        f"| `{name}`{' *' if name in required else ''} | {_value(field, schemas)} |\n"
        for name, field in schema.get("properties", {}).items()
    )


def _value(schema: dict[str, Any], schemas: dict[str, Any], *, named: bool = False) -> str:
    """One line that says what may stand there; ``named``: other objects by their names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if named:
            return f"[{name}](#{name.lower()})"
        schema = schemas[name]
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [
            _value(one, schemas, named=named)
            for one in schema.get("anyOf", schema.get("oneOf", ()))
            if one.get("type") != "null"
        ]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        most = f", {schema['maxItems']} at most" if "maxItems" in schema else ""
        return f"array of {_value(schema['items'], schemas, named=named)}{most}"
    if kind == "object":
        fields = schema.get("properties")
        if not fields:
            most = f", {schema['maxProperties']} pairs at most" if "maxProperties" in schema else ""
            return f"object{most}"
        needed = set(schema.get("required", ()))
        names = ", ".join(f"`{name}`{' *' if name in needed else ''}" for name in fields)
        return f"object of {names}"
    return kind + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    limits = []
    if "minimum" in schema:
        limits.append(f"from {schema['minimum']:g}")
    if "maximum" in schema and schema["maximum"] < 2**31:
        limits.append(f"to {schema['maximum']:g}")
    if "maxLength" in schema:
        limits.append(f"{schema['maxLength']} characters at most")
    if "default" in schema and schema["default"] is not None:
        limits.append(f"default {schema['default']}")
    return f" ({', '.join(limits)})" if limits else ""


if __name__ == "__main__":
    PAGE.write_text(page())
