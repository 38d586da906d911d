"""Spans of requests, runs, model calls and transactions; no word of a conversation in them."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.api.exchanges import Json, made
from tests.api.streams import played
from tests.live_server import LiveServer, live_server
from tests.upstream import Upstream, call, cut, say

from assistants_server import app
from assistants_server.errors import Unavailable
from assistants_server.settings import Settings
from assistants_server.tracing import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def server(
    tmp_path: Path, upstream: Upstream, exporter: InMemorySpanExporter
) -> AsyncIterator[LiveServer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with live_server(
        data=tmp_path,
        upstream_url=upstream.base_url,
        upstream_key="MARKupstream",
        tracing=Tracing(provider),
    ) as running:
        yield running


async def answered(server: LiveServer) -> None:
    """A stream's last byte may arrive before its request, and with it the span, has ended."""
    while server.connections.tasks:
        await asyncio.wait(server.connections.tasks)


async def talked(
    http: httpx2.AsyncClient, assistant: Json, words: str = "Hello"
) -> list[tuple[str, Json]]:
    message = {"role": "user", "content": words}
    thread = await made(http, "/v1/threads", {"messages": [message]})
    return await played(http, f"/v1/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [one for one in exporter.get_finished_spans() if one.name == name]
    return span


async def test_a_turn_is_one_trace_from_the_caller_to_the_model(
    server: LiveServer,
    http: httpx2.AsyncClient,
    upstream: Upstream,
    assistant: Json,
    exporter: InMemorySpanExporter,
) -> None:
    upstream.script(say("Hi").usage(11, 7))
    http.headers["traceparent"] = PARENT
    told = await talked(http, assistant)
    await answered(server)
    run = told[0][1]

    request = named(exporter, "POST /v1/threads/{thread_id}/runs")
    executed = named(exporter, "run")
    asked = named(exporter, "chat")
    stored = named(exporter, "write run_creation.create")
    spoke = named(exporter, "progress turn.open_message")
    assert {format(one.context.trace_id, "032x") for one in (request, executed, asked)} == {
        PARENT.split("-")[1]
    }
    assert [one.parent.span_id if one.parent else None for one in (stored, executed)] == [
        request.context.span_id
    ] * 2
    assert [one.parent.span_id if one.parent else None for one in (spoke, asked)] == [
        executed.context.span_id
    ] * 2
    carried = upstream.requests[-1].headers["traceparent"]
    assert carried.split("-")[1:3] == [PARENT.split("-")[1], format(asked.context.span_id, "016x")]

    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200
    assert str(request.attributes["assistants.request.id"]).startswith("req_")
    assert executed.attributes == {
        "assistants.run.id": run["id"],
        "assistants.assistant.id": assistant["id"],
        "assistants.run.status": "completed",
        "gen_ai.conversation.id": run["thread_id"],
    }
    assert asked.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
    }
    assert [event.name for event in asked.events] == ["first token"]
    assert stored.attributes == {
        "db.system.name": "sqlite",
        "db.operation.name": "run_creation.create",
    }


async def test_a_failed_run_is_marked_and_no_text_is_told(
    server: LiveServer,
    http: httpx2.AsyncClient,
    upstream: Upstream,
    exporter: InMemorySpanExporter,
) -> None:
    assistant = await made(
        http,
        "/v1/assistants",
        {"model": "gpt-4o", "instructions": "MARKinstructions", "tools": [FUNCTION]},
    )
    http.headers["Authorization"] = "Bearer MARKkey"
    upstream.script(call("f", {"a": "MARKarguments"}, id="call_a"), say("MARKcut") + cut())
    told = await talked(http, assistant, "MARKuser")
    run = next(data for name, data in told if name == "thread.run.requires_action")
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "MARKoutput"}]}
    assert (await played(http, path, outputs))[-2][0] == "thread.run.failed"
    await http.get("/v1/threads?metadata[MARKname]=MARKvalue")
    await http.get("/v1/files/MARKfile/MARKpath")

    await answered(server)
    spans = exporter.get_finished_spans()
    first, second = [one for one in spans if one.name == "run"]
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.UNSET,
        StatusCode.ERROR,
    )
    assert [one.status.status_code for one in spans if one.name == "chat"] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
    ]
    for span in spans:
        assert "MARK" not in span.to_json()


async def test_what_the_server_does_for_itself_makes_no_spans(
    server: LiveServer, exporter: InMemorySpanExporter
) -> None:
    await server.state.worker._sweep()
    assert exporter.get_finished_spans() == ()


# Switching it on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, False),
        ({"ASSISTANTS_TRACING": "true"}, True),
        ({"ASSISTANTS_TRACING": "false", "OTEL_TRACES_EXPORTER": "console"}, False),
    ],
)
def test_it_is_on_where_the_environment_says_where_to(
    variables: dict[str, str], on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().traces is on


async def test_a_server_that_does_not_trace_never_loads_it() -> None:
    look = (
        "import sys; from assistants_server.app import create_app;"
        "from assistants_server.settings import Settings; create_app(Settings());"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", look)
    assert await process.wait() == 0


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "assistants_server.tracing", None)
    with pytest.raises(Unavailable, match=r"install assistants-server\[otel\]"):
        app.create_app(Settings(tracing=True))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    with caplog.at_level(logging.WARNING):
        app.create_app(Settings())  # the variable may be meant for others
    assert "install assistants-server[otel]" in caplog.text


def test_an_exporter_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier_pigeon")
    with pytest.raises(Unavailable, match="no OpenTelemetry exporter 'carrier_pigeon'"):
        Tracing(trace.ProxyTracerProvider()).start()


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """What an OpenTelemetry collector is: its URL, and what was posted to it."""
    posted: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", posted
        listening.shutdown()
        thread.join()


async def test_spans_reach_the_collector_that_the_environment_names(
    tmp_path: Path,
    collector: tuple[str, list[tuple[str, bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, posted = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front desk")
    async with (
        live_server(data=tmp_path, tracing=Tracing(trace.ProxyTracerProvider())) as server,
        server.http() as http,
    ):
        await made(http, "/v1/threads", {})
    ((path, body),) = posted
    assert path == "/v1/traces"
    assert b"front desk" in body
    assert b"POST /v1/threads" in body
