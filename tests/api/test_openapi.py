"""The document describes what the router serves, because both are made from one table."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import jsonschema
import pytest

from assistants_server.routes.openapi import document
from assistants_server.routes.table import ENDPOINTS

DOCUMENT: dict[str, Any] = document(ENDPOINTS)
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


async def test_every_described_path_is_served(http: httpx2.AsyncClient) -> None:
    for method, path, _ in OPERATIONS:
        concrete = (
            re.sub(r"{(\w+)_id}", r"\1_x", path).replace("{model}", "m").replace("{rest}", "v")
        )
        response = await http.request(method.upper(), concrete)
        assert not response.text.startswith('{"error":{"message":"Invalid URL'), (method, path)
        assert response.status_code != 405, (method, path)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names)) == len(ENDPOINTS)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    found: set[str] = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert found <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_answer_is_described() -> None:
    for method, path, operation in OPERATIONS:
        told = operation["responses"]["200"].get("content")
        refuses_always = path.startswith("/v1/vector_stores") or path == "/openapi.json"
        assert told or refuses_always, (method, path)


def test_path_parameters_are_declared() -> None:
    for method, path, operation in OPERATIONS:
        declared = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert declared == re.findall(r"{(\w+)}", path), (method, path)


@pytest.mark.parametrize(
    ("method", "path", "beta"),
    [("post", "/v1/threads", True), ("get", "/v1/files", False), ("get", "/health/live", False)],
)
def test_the_beta_header_is_described_where_it_is_asked_for(
    method: str, path: str, beta: bool
) -> None:
    parameters = DOCUMENT["paths"][path][method]["parameters"]
    assert any(p["name"] == "OpenAI-Beta" for p in parameters) is beta
