"""When something of ours breaks: an envelope, one log line, and no word of the conversation."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.api.exchanges import made, refusal
from tests.api.streams import played
from tests.live_server import LiveServer, live_server

from assistants_server import log
from assistants_server.domain.model_exchange import ModelRequest, Piece
from assistants_server.providers.contract import ModelInfo
from assistants_server.routes.request_trace import STORED, RequestTrace

SECRET = "the caller's own words"


class Broken:
    """A provider with a bug that quotes what it was told."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        raise NotImplementedError

    def context_window(self, model: str) -> int:
        return 1000

    async def models(self) -> Sequence[ModelInfo]:
        raise ZeroDivisionError(SECRET)

    async def aclose(self) -> None:
        pass


async def test_a_bug_is_a_500_that_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_server(data=tmp_path, provider=Broken()) as server, server.http() as http:
        response = await http.get("/v1/models")
        status, message, _, _ = refusal(response)
        assert status == 500
        assert message.startswith("The server had an error processing your request.")
        assert response.json()["error"]["type"] == "server_error"
        assert "x-should-retry" not in response.headers
        assert SECRET not in response.text
        assert (await http.get("/health/live")).status_code == 200
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in faults] == ["request failed"]


async def test_every_line_about_a_run_carries_its_id_and_its_request_s(tmp_path: Path) -> None:
    written = io.StringIO()
    handler = log.handler(written)
    logger = logging.getLogger("assistants_server")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        async with live_server(data=tmp_path, provider=Broken()) as server, server.http() as http:
            assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": SECRET})
            told = await played(http, "/v1/threads/runs", {"assistant_id": assistant["id"]})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    run = told[-2][1]
    assert run["status"] == "failed"
    lines = [orjson.loads(line) for line in written.getvalue().splitlines()]
    about = {line["message"]: line for line in lines if line.get("run_id") == run["id"]}
    assert set(about) == {"run failed", "POST /v1/threads/runs 200"}
    assert len({line["request_id"] for line in about.values()}) == 1
    assert about["run failed"]["error"] == "NotImplementedError"
    assert SECRET not in written.getvalue()


async def test_a_database_that_is_gone_is_a_503(server: LiveServer) -> None:
    await server.state.database.close()
    async with server.http() as http:
        for method, path in (
            ("GET", "/v1/threads"),
            ("POST", "/v1/threads"),
            ("GET", "/health/ready"),
        ):
            response = await http.request(method, path)
            assert refusal(response)[0] == 503
            assert response.json()["error"]["type"] == "server_error"
            assert "x-should-retry" not in response.headers, "nothing was stored: try again"
        assert (await http.get("/health/live")).status_code == 200


async def test_every_request_is_one_line_without_its_text(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="assistants_server")
    async with server.http() as http:
        body = {"messages": [{"role": "user", "content": SECRET}], "metadata": {"k": SECRET}}
        await made(http, "/v1/threads", body)
        await http.get("/v1/threads", params={"metadata[k]": SECRET})
        await http.post("/v1/threads", json={SECRET: 1})
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("request_trace")]
    assert lines == ["POST /v1/threads 200", "GET /v1/threads 200", "POST /v1/threads 400"]
    assert SECRET not in caplog.text


async def test_after_a_run_is_stored_a_fault_asks_not_to_be_retried() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[STORED] = "run_1"
        raise ZeroDivisionError

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/v1/threads/runs", "headers": []}
    await RequestTrace(app)(scope, receive, send)
    assert sent[0]["status"] == 500
    assert (b"x-should-retry", b"false") in sent[0]["headers"]
    assert orjson.loads(sent[1]["body"])["error"]["type"] == "server_error"


async def test_a_fault_in_mid_answer_does_not_look_like_its_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/v1/files/file-1/content", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await RequestTrace(app)(scope, receive, send)
    assert len(sent) == 1
