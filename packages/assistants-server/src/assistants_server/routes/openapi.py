"""The OpenAPI 3.1 document, made from the table of endpoints and the wire's own models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from ..version import __version__
from .endpoints import Endpoint

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_REFERENCE = "#/components/schemas/{model}"

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@lru_cache(maxsize=1)
def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    bodies = {endpoint.body for endpoint in endpoints if endpoint.body is not None}
    objects = {_single(endpoint) for endpoint in endpoints if endpoint.returns is not None}
    ordered = sorted([*bodies, *objects], key=lambda kind: str(kind.__name__))
    _, schemas = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in ordered], ref_template=_REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = paths.setdefault(_PARAMETER.sub(r"{\1}", endpoint.path), {})
        path[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "assistants-server",
            "version": __version__,
            "description": "OpenAI's Assistants API v2.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint.query)],
        "responses": {
            "200": _answer(endpoint),
            "default": {
                "description": "A refusal.",
                "content": {"application/json": {"schema": _reference("Error")}},
            },
        },
    }
    if endpoint.body is not None:
        schema = _reference(endpoint.body.__name__)
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    if not endpoint.open:
        operation["security"] = [{"key": []}]
    if endpoint.beta:
        operation["parameters"].append(
            {
                "name": "OpenAI-Beta",
                "in": "header",
                "required": True,
                "schema": {"type": "string", "const": "assistants=v2"},
            }
        )
    return operation


def _single(endpoint: Endpoint) -> Any:
    """The object that the endpoint answers with, or lists."""
    return get_args(endpoint.returns)[0] if get_args(endpoint.returns) else endpoint.returns


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    told: dict[str, Any] = {"description": endpoint.answer}
    if endpoint.returns is not None:
        schema: Mapping[str, Any] = _reference(_single(endpoint).__name__)
        if get_args(endpoint.returns):
            schema = _page(schema)
        told["content"] = {"application/json": {"schema": schema}}
        if endpoint.body is not None and "stream" in endpoint.body.model_fields:
            told["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    elif endpoint.media is not None:
        told["content"] = {endpoint.media: {"schema": {"type": "string"}}}
    return told


def _page(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": item},
        "first_id": {"type": ["string", "null"]},
        "last_id": {"type": ["string", "null"]},
        "has_more": {"type": "boolean"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _operation_id(endpoint: Endpoint) -> str:
    module = endpoint.handler.__module__.rpartition(".")[2]
    name = f"{module}_{endpoint.handler.__name__}"
    # One handler of the vector stores stands for several methods.
    return name if name != "vector_stores_missing" else f"{name}_{endpoint.method.lower()}"


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(endpoint.path)
    ]


def _query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema()
    parameters = []
    for name, described in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "schema": described}
        if described.get("type") == "object":
            parameter["style"] = "deepObject"
        parameters.append(parameter)
    return parameters


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}
