"""What the tests of plain HTTP say often."""

from __future__ import annotations

from typing import Any

import httpx2

Json = dict[str, Any]


async def made(http: httpx2.AsyncClient, path: str, body: object) -> Json:
    """POST that must succeed; returns the object."""
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    made: Json = response.json()
    return made


def refusal(response: httpx2.Response) -> tuple[int, str, str | None, str | None]:
    """Status, message, ``param`` and ``code`` of an answer that must be the error envelope."""
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    return response.status_code, error["message"], error["param"], error["code"]
