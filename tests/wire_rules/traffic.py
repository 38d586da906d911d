"""Every answer of a server, seen from between the server and its socket.

``Traffic`` is an ASGI layer around the whole app. It changes nothing; what breaks a rule is kept
until the test asks, or until its server is closed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson
from tests.wire_rules import objects
from tests.wire_rules.judgement import complaints, judge_object
from tests.wire_rules.streams import TERMINAL, Opening, StreamRules

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_ID = r"[^/]+"
_THREAD = rf"/v1/threads/{_ID}"
_RUN = rf"{_THREAD}/runs/{_ID}"

ANSWERS: Sequence[tuple[str, str, str]] = (
    ("POST", "/v1/assistants", "assistant"),
    ("GET", "/v1/assistants", "list of assistant"),
    ("GET POST", f"/v1/assistants/{_ID}", "assistant"),
    ("DELETE", f"/v1/assistants/{_ID}", "assistant.deleted"),
    ("POST", "/v1/threads/runs", "thread.run"),
    ("POST", "/v1/threads", "thread"),
    ("GET", "/v1/threads", "list of thread"),
    ("GET POST", _THREAD, "thread"),
    ("DELETE", _THREAD, "thread.deleted"),
    ("POST", f"{_THREAD}/messages", "thread.message"),
    ("GET", f"{_THREAD}/messages", "list of thread.message"),
    ("GET POST", f"{_THREAD}/messages/{_ID}", "thread.message"),
    ("DELETE", f"{_THREAD}/messages/{_ID}", "thread.message.deleted"),
    ("POST", f"{_THREAD}/runs", "thread.run"),
    ("GET", f"{_THREAD}/runs", "list of thread.run"),
    ("GET POST", _RUN, "thread.run"),
    ("POST", f"{_RUN}/cancel", "thread.run"),
    ("POST", f"{_RUN}/submit_tool_outputs", "thread.run"),
    ("GET", f"{_RUN}/steps", "list of thread.run.step"),
    ("GET", f"{_RUN}/steps/{_ID}", "thread.run.step"),
    ("POST", "/v1/files", "file"),
    ("GET", "/v1/files", "list of file"),
    ("GET", f"/v1/files/{_ID}", "file"),
    ("DELETE", f"/v1/files/{_ID}", "file.deleted"),
    ("GET", f"/v1/files/{_ID}/content", "bytes"),
    ("GET", "/v1/models", "models"),
    ("GET", "/v1/models/.+", "model"),
    ("GET", "/v1/vector_stores", "list of nothing"),
    ("GET", "/metrics", "text"),
    ("GET", "/health/(live|ready)|/openapi.json", "json"),
)
"""What a successful answer holds. A path that is not here must not succeed."""

NEW_IDS: Mapping[str, str] = {
    "assistant": r"asst_[A-Za-z0-9]{24}",
    "thread": r"thread_[A-Za-z0-9]{24}",
    "thread.message": r"msg_[A-Za-z0-9]{24}",
    "thread.run": r"run_[A-Za-z0-9]{24}",
    "file": r"file-[A-Za-z0-9]{22}",
}
"""The ids that a server gives. Imported objects keep those they came with."""

STREAMS: Mapping[str, Opening] = {
    "/v1/threads/runs": "thread and run",
    f"{_THREAD}/runs": "run",
    f"{_RUN}/submit_tool_outputs": "submission",
}

HEADERS: Mapping[str, str] = {
    "x-request-id": r"req_[0-9a-f]{32}",
    "openai-processing-ms": r"\d+",
    "openai-version": r"2020-10-01",
    "assistants-server": r"\d.*",
}


class BrokenRule(AssertionError):
    """The server answered something that the wire does not allow."""


@dataclass
class Exchange:
    """One request and its answer, as they come."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    ended_before: Mapping[str, dict[str, Any]]
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    stream: StreamRules | None = None
    client_left: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status}"


class Traffic:
    """The layer. One for each app; ``check`` raises once for all that was broken so far."""

    def __init__(self, app: App) -> None:
        self.complaints: list[str] = []
        self.exchanges = 0
        self._app = app
        self._request_ids: set[str] = set()
        self._ended: dict[str, dict[str, Any]] = {}  # terminal runs and steps as last shown

    def check(self) -> None:
        found, self.complaints = self.complaints, []
        if found:
            more = f"\n… and {len(found) - 20} more" if len(found) > 20 else ""
            raise BrokenRule("\n".join(found[:20]) + more)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(
            scope["method"],
            scope["path"],
            parse_qs(scope["query_string"].decode("latin-1")),
            dict(self._ended),
        )
        self.exchanges += 1

        async def watched_receive() -> Any:
            message = await receive()
            exchange.client_left |= message["type"] == "http.disconnect"
            return message

        async def watched_send(message: Any) -> None:
            self._watch(exchange, message)
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except BaseException:
            exchange.client_left = True  # the connection breaks: the client sees no end
            raise
        finally:
            self._over(exchange)

    def _watch(self, exchange: Exchange, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._begin(exchange, message)
        elif exchange.stream is not None:
            exchange.body += message.get("body", b"")
            *frames, rest = bytes(exchange.body).split(b"\n\n")
            exchange.body = bytearray(rest)
            for frame in frames:
                exchange.stream.frame(frame.decode())
            exchange.whole |= not message.get("more_body", False)
        else:
            exchange.body += message.get("body", b"")
            exchange.whole |= not message.get("more_body", False)

    def _begin(self, exchange: Exchange, message: Any) -> None:
        exchange.status = message["status"]
        names = [name.decode() for name, _ in message["headers"]]
        exchange.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        if names != [name.lower() for name in names] or len(names) != len(set(names)):
            self._complain(exchange, f"headers repeat or are not in lower case: {names}")
        for name, pattern in HEADERS.items():
            if not re.fullmatch(pattern, exchange.headers.get(name, "")):
                self._complain(exchange, f"{name} is {exchange.headers.get(name)!r}")
        request_id = exchange.headers.get("x-request-id", "")
        if request_id in self._request_ids:
            self._complain(exchange, f"request id {request_id} was given before")
        self._request_ids.add(request_id)
        if exchange.headers.get("content-type", "").startswith("text/event-stream"):
            opening = next((STREAMS[p] for p in STREAMS if re.fullmatch(p, exchange.path)), None)
            if opening is None or exchange.method != "POST":
                self._complain(exchange, "streams, though it must not")
            exchange.stream = StreamRules(opening or "run", str(exchange))
            expected = {"cache-control": "no-cache", "x-accel-buffering": "no"}
            expected["content-type"] = "text/event-stream; charset=utf-8"
            for name, value in expected.items():
                if exchange.headers.get(name) != value:
                    self._complain(exchange, f"{name} of a stream is not {value!r}")

    def _over(self, exchange: Exchange) -> None:
        """The answer is complete, or the client has gone."""
        stream = exchange.stream
        if stream is not None:
            if exchange.whole:
                stream.end()
                if exchange.body:
                    self._complain(exchange, "the stream ends within a frame")
            elif not exchange.client_left:
                self._complain(exchange, "the stream broke off")
            self.complaints += stream.complaints
            for shown in stream.objects:
                self._remember(exchange, shown)
        elif not exchange.whole:
            if not exchange.client_left:
                self._complain(exchange, "no whole answer")
        elif exchange.status == 200:
            self._success(exchange)
        else:
            self._refusal(exchange)

    def _success(self, exchange: Exchange) -> None:
        method = "GET" if exchange.method == "HEAD" else exchange.method
        kind = next(
            (
                kind
                for methods, path, kind in ANSWERS
                if method in methods.split() and re.fullmatch(path, exchange.path)
            ),
            None,
        )
        content_type = "application/octet-stream" if kind == "bytes" else "application/json"
        if kind == "text":
            content_type = "text/plain; version=1.0.0; charset=utf-8"
        if kind is None:
            self._complain(exchange, "the rules know no success of this request")
        if exchange.headers.get("content-type") != content_type:
            self._complain(exchange, f"content-type is {exchange.headers.get('content-type')!r}")
        if kind == "thread.run":
            poll = exchange.headers.get("openai-poll-after-ms", "")
            if not re.fullmatch(r"[1-9]\d*", poll):
                self._complain(exchange, f"openai-poll-after-ms is {poll!r}")
        if kind in (None, "bytes", "text") or exchange.method == "HEAD":
            return
        value = self._parsed(exchange)
        if kind == "models" or kind.startswith("list of "):
            self._list(exchange, value, kind.removeprefix("list of "))
        elif kind != "json":
            self._object(exchange, value, kind)

    def _object(self, exchange: Exchange, value: Any, kind: str, where: str = "") -> None:
        found = judge_object(kind, value, f"{exchange}{where}")
        self.complaints += found
        if found:
            return
        if exchange.method == "POST" and not exchange.path.rpartition("/")[2].count("_"):
            pattern = NEW_IDS.get(kind, ".+")
            if not re.fullmatch(pattern, value["id"]):
                self._complain(exchange, f"gives the id {value['id']!r}")
        self._remember(exchange, value)

    def _remember(self, exchange: Exchange, shown: dict[str, Any]) -> None:
        """Terminal is final: what was shown so before the request came is shown so for ever."""
        if shown.get("object") not in ("thread.run", "thread.run.step"):
            return
        if exchange.headers.get("idempotent-replayed") == "true":
            return  # what was said before is said again
        if shown.get("status") not in TERMINAL:
            if shown.get("id") in exchange.ended_before:
                self._complain(exchange, f"{shown['id']} had ended and is {shown['status']}")
            return
        lasting = {key: value for key, value in shown.items() if key != "metadata"}
        before = exchange.ended_before.get(shown["id"])
        if before is not None and before != lasting:
            changed = [key for key in lasting if lasting[key] != before.get(key)]
            self._complain(exchange, f"{shown['id']} had ended, and its {changed} changed")
        self._ended[shown["id"]] = lasting

    def _list(self, exchange: Exchange, value: Any, kind: str) -> None:
        keys = ["object", "data", "first_id", "last_id", "has_more"]
        keys = keys[:2] if kind == "models" else keys
        if not isinstance(value, dict) or list(value) != keys or value["object"] != "list":
            self._complain(exchange, f"a list has the keys {keys}")
            return
        item = {"models": "model", "nothing": "assistant"}.get(kind, kind)
        for number, shown in enumerate(value["data"]):
            self._object(exchange, shown, item, f" data[{number}]")
        if kind == "models":
            return
        ids = [shown.get("id") for shown in value["data"]]
        if [value["first_id"], value["last_id"]] != ([ids[0], ids[-1]] if ids else [None, None]):
            self._complain(exchange, "first_id and last_id are not those of the page")
        if len(set(ids)) != len(ids):
            self._complain(exchange, "an object is on the page twice")
        if not isinstance(value["has_more"], bool) or (value["has_more"] and not ids):
            self._complain(exchange, f"has_more is {value['has_more']}")
        default = 10_000 if kind == "file" else 20
        if len(ids) > int(exchange.query.get("limit", [default])[-1]):
            self._complain(exchange, f"{len(ids)} objects are more than were asked for")
        times = [shown["created_at"] for shown in value["data"]]
        ascending = exchange.query.get("order", ["desc"])[-1] == "asc"
        if times != sorted(times, reverse=not ascending):
            self._complain(exchange, "the page is not in order of creation")

    def _refusal(self, exchange: Exchange) -> None:
        if exchange.headers.get("content-type") != "application/json":
            self._complain(exchange, "a refusal is JSON")
        if exchange.status == 409 or not 400 <= exchange.status < 600:
            self._complain(exchange, "no status of this API: SDKs repeat a 409 by themselves")
        retry_after = exchange.headers.get("retry-after", "")
        if exchange.status == 429 and not re.fullmatch(r"[1-9]\d*", retry_after):
            self._complain(exchange, "a 429 says when to try again")
        if exchange.status == 405 and "allow" not in exchange.headers:
            self._complain(exchange, "a 405 says what is allowed")
        if exchange.method == "HEAD":
            return
        value = self._parsed(exchange)
        found = complaints(objects.ErrorEnvelope, value, str(exchange))
        self.complaints += found
        if not found and (value["error"]["type"] == "server_error") is not (exchange.status >= 500):
            self._complain(exchange, f"type is {value['error']['type']!r}")

    def _parsed(self, exchange: Exchange) -> Any:
        try:
            return orjson.loads(bytes(exchange.body))
        except orjson.JSONDecodeError as error:
            self._complain(exchange, f"no JSON: {error}")
            return None

    def _complain(self, exchange: Exchange, text: str) -> None:
        self.complaints.append(f"{exchange}: {text}")
