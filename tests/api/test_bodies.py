"""Bodies of every kind, none of which may end in a 5xx."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import orjson
import pytest
from tests.api.exchanges import made, refusal
from tests.live_server import live_server

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[1,",
        b"nonsense",
        b'{"metadata": NaN}',
        b'{"metadata": Infinity}',
        b'{"metadata": 1e999}',
        b'{"metadata": {"a": "\\ud800"}}',
        b'{"metadata": {"a": "\xff"}}',
        b'{"metadata": {"a": "\x00"}}',
        b'{"a": 1} {"b": 2}',
        b"[" * 100_000,
    ],
)
async def test_what_is_not_json_is_refused(http: httpx2.AsyncClient, content: bytes) -> None:
    status, message, _, _ = refusal(await http.post("/v1/threads", content=content, headers=JSON))
    assert status == 400
    assert message.startswith("We could not parse the JSON body of your request: ")


async def test_deep_nesting_is_refused(http: httpx2.AsyncClient) -> None:
    def nested(levels: int) -> bytes:
        schema = b'{"a":' * levels + b"1" + b"}" * levels
        function = b'{"name":"f","parameters":' + schema + b"}"
        tool = b'{"type":"function","function":' + function + b"}"
        return b'{"model":"m","tools":[' + tool + b"]}"

    fits = await http.post("/v1/assistants", content=nested(90), headers=JSON)
    assert fits.status_code == 200
    assert (await http.get("/v1/assistants")).json()["data"] == [fits.json()]
    for levels in (120, 900):
        status, message, _, _ = refusal(
            await http.post("/v1/assistants", content=nested(levels), headers=JSON)
        )
        assert (status, message) == (
            400,
            "Invalid body: nested too deeply. Expected at most 100 levels.",
        )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"metadata": {"a": "x\0"}}, "metadata.a"),
        ({"messages": [{"role": "user", "content": "\0"}]}, "messages[0].content"),
        ({"metadata": {"a\0": "x"}}, "metadata"),
    ],
)
async def test_nul_characters_are_refused(
    http: httpx2.AsyncClient, body: object, param: str
) -> None:
    status, message, named, _ = refusal(await http.post("/v1/threads", json=body))
    assert (status, named) == (400, param)
    assert message == (f"Invalid '{param}': a string must not contain the NUL character (\\u0000).")


async def test_a_backslash_before_u0000_is_no_nul(http: httpx2.AsyncClient) -> None:
    body = {"metadata": {"a": "\\u0000"}}
    assert b"\\u0000" in orjson.dumps(body)
    assert (await made(http, "/v1/threads", body))["metadata"] == {"a": "\\u0000"}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_refused(http: httpx2.AsyncClient, kind: str) -> None:
    response = await http.post("/v1/threads", content=b"{}", headers={"content-type": kind})
    assert refusal(response)[:2] == (
        400,
        (
            f"Invalid Content-Type header ({kind}), expected application/json. "
            "(HINT: If you're using curl, you can pass -H 'Content-Type: application/json')"
        ),
    )


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_by_any_spelling_is_accepted(http: httpx2.AsyncClient, kind: str) -> None:
    response = await http.post("/v1/threads", content=b"{}", headers={"content-type": kind})
    assert response.status_code == 200


async def test_no_body_is_an_empty_object(http: httpx2.AsyncClient) -> None:
    assert refusal(await http.post("/v1/assistants", headers=JSON)) == (
        400,
        "Missing required parameter: 'model'.",
        "model",
        "missing_required_parameter",
    )


async def test_duplicate_keys_keep_the_last(http: httpx2.AsyncClient) -> None:
    content = b'{"metadata": {"a": "1"}, "metadata": {"a": "2"}}'
    response = await http.post("/v1/threads", content=content, headers=JSON)
    assert response.json()["metadata"] == {"a": "2"}


async def test_a_body_too_large_is_refused(tmp_path: Path) -> None:
    async with live_server(data=tmp_path, max_body=4096) as server, server.http() as http:
        response = await http.post("/v1/threads", content=b" " * 5000, headers=JSON)
        assert refusal(response) == (
            413,
            "The request body is too large: this server accepts at most 4096 bytes.",
            None,
            "request_too_large",
        )
        exactly = b"{}" + b" " * 4094
        response = await http.post("/v1/threads", content=exactly, headers=JSON)
        assert response.status_code == 200


async def test_a_body_too_large_is_refused_while_it_is_read(tmp_path: Path) -> None:
    async with live_server(data=tmp_path, max_body=4096) as server:
        host, _, port = server.origin.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(
                b"POST /v1/threads HTTP/1.1\r\nhost: x\r\nopenai-beta: assistants=v2\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            for _ in range(5):
                writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            # No end of the body was sent, and none is waited for.
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        finally:
            writer.close()
            await writer.wait_closed()
