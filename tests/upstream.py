"""A model on the other end of a real socket: Chat Completions, played from a script.

It keeps two rules. It is strict: a request beyond the script, or a step left over at the end,
fails the test. And it never waits for time: whatever has to happen between two chunks is an event
that the test sets.

    async with Upstream() as upstream:
        hold = stall()
        upstream.script(say("Hel", hold, "lo"), call("get_time", {"city": "Paris"}))
        ...                                # point the code under test at upstream.base_url
        await hold.reached.wait()
        hold.release()
    # leaving the block checks that the script was played to its end

One step answers one request, in the order of arrival. Steps are joined with ``+`` into one turn:
``say("One moment. ") + call("get_time")``, ``call("a") + call("b")`` (parallel calls),
``say("Hel") + cut()`` (the connection breaks), ``stall() + say("late")`` (before the headers).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from assistants_server import ids

Json = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


# What an answer is made of ------------------------------------------------------------------


class Stall:
    """A point in an answer that waits for the test. Joins other steps with ``+``."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def __call__(self) -> None:
        self.reached.set()
        await self._released.wait()

    def __add__(self, other: Answer | Stall) -> Answer:
        return Answer((self,)) + other


@dataclass(frozen=True, slots=True)
class Delta:
    """One chunk with this delta."""

    delta: Json


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, between two events."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed here, in mid-answer."""


Pause = Callable[[], Awaitable[None]]
Part = Delta | Call | Raw | Cut | Pause


@dataclass(frozen=True, slots=True)
class Tokens:
    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0

    def wire(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request. ``finish=None``: what the parts call for; ``""``: never said."""

    parts: tuple[Part, ...] = ()
    finish: str | None = None
    tokens: Tokens | None = None
    tells_usage: bool = True
    tells_done: bool = True
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Answer | Stall) -> Answer:
        if isinstance(other, Stall):
            return replace(self, parts=(*self.parts, other))
        return replace(
            other,
            parts=self.parts + other.parts,
            finish=self.finish if other.finish is None else other.finish,
            tokens=other.tokens or self.tokens,
            tells_usage=self.tells_usage and other.tells_usage,
            tells_done=self.tells_done and other.tells_done,
        )

    def usage(self, prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> Answer:
        """Report exactly these tokens; without it they are counted (words in, chunks out)."""
        return replace(self, tokens=Tokens(prompt, completion, cached, reasoning))

    def no_usage(self) -> Answer:
        """As servers that do not know ``stream_options``."""
        return replace(self, tells_usage=False)

    def no_finish(self) -> Answer:
        """No chunk carries a ``finish_reason``; ``[DONE]`` is still sent."""
        return replace(self, finish="")

    def no_done(self) -> Answer:
        """The body ends in order, but without ``[DONE]``."""
        return replace(self, tells_done=False)


# Steps --------------------------------------------------------------------------------------


def _texts(key: str, pieces: Iterable[str | Pause]) -> tuple[Part, ...]:
    return tuple(Delta({key: piece}) if isinstance(piece, str) else piece for piece in pieces)


def say(*pieces: str | Pause) -> Answer:
    """Text, a chunk for each string. A ``stall()`` among them holds the stream there."""
    return Answer(_texts("content", pieces))


def json(value: Any) -> Answer:
    """Text that is this JSON, in chunks of a few characters."""
    return say(*_fragments(orjson.dumps(value).decode()))


def refusal(*pieces: str | Pause) -> Answer:
    return Answer(_texts("refusal", pieces))


def call(
    name: str,
    arguments: Mapping[str, Any] | str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the wire's own word
) -> Answer:
    """One function call. A string of arguments is sent as it is, valid or not."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return Answer((Call(name, text, id or ids.call_id()),))


def calls(*answers: Answer) -> Answer:
    """Parallel calls of one turn: ``calls(call("a"), call("b"))``."""
    joined = Answer()
    for answer in answers:
        joined = joined + answer
    return joined


def length(*pieces: str | Pause) -> Answer:
    """Text that ends at a token bound."""
    return replace(say(*pieces), finish="length")


def content_filter(*pieces: str | Pause) -> Answer:
    """Text that is withheld from here on."""
    return replace(say(*pieces), finish="content_filter")


def empty() -> Answer:
    """A turn without a word."""
    return Answer()


def cut(*pieces: str | Pause, after: int | None = None) -> Answer:
    """The connection breaks after these pieces, or after ``after`` chunks of some words."""
    if after is not None:
        pieces = (*pieces, *(f"word{n} " for n in range(after)))
    return Answer((*_texts("content", pieces), Cut()))


def stall() -> Stall:
    """A handle: ``await hold.reached.wait()``, then ``hold.release()``."""
    return Stall()


def raw(data: bytes | str) -> Answer:
    """Bytes that the server writes as they are: comments, broken lines, nonsense."""
    return Answer((Raw(data.encode() if isinstance(data, str) else data),))


def garbage() -> Answer:
    """An event that is no JSON."""
    return raw(b'data: {"choices": [\n\n')


def event(value: Any) -> Answer:
    """One event with this JSON, such as ``{"error": {…}}``."""
    return raw(b"data: " + orjson.dumps(value) + b"\n\n")


def delta(**fields: Any) -> Answer:
    """One chunk with this delta: what other servers send."""
    return Answer((Delta(fields),))


def fail(
    status: int = 500,
    body: Any = None,
    *,
    message: str = "The server had an error",
    type: str | None = None,  # noqa: A002 - the wire's own word
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An error status. ``body`` replaces OpenAI's error object; bytes are sent as they are."""
    if body is None:
        body = {"error": {"message": message, "type": type, "param": param, "code": code}}
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status=status, body=data, headers=headers or {})


def echo(body: Json) -> Answer:
    """A default responder: the last user message, word by word."""
    text = next(_flat(m.get("content")) for m in body["messages"][::-1] if m["role"] == "user")
    return say(*(word + " " for word in text.split()))


# The server ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """One recorded Chat Completions request. Header names are lower case."""

    body: Json
    headers: Mapping[str, str]

    @property
    def messages(self) -> Sequence[Json]:
        messages: Sequence[Json] = self.body["messages"]
        return messages


class Upstream:
    """The scripted server. ``default`` answers what the script does not: properties, benchmarks."""

    def __init__(
        self,
        *,
        default: Callable[[Json], Answer] | None = None,
        models: Sequence[str] = ("gpt-4o", "gpt-4o-mini"),
    ) -> None:
        self.default = default
        self.models = models
        self.requests: list[Request] = []
        self.connections_made = 0
        self.disconnects = 0
        self._steps: list[Answer] = []
        self._unexpected = 0
        self._changed = asyncio.Condition()
        self._state = ServerState()

    def script(self, *steps: Answer | Stall) -> None:
        """Add steps: one for each coming request."""
        self._steps.extend(step + empty() if isinstance(step, Stall) else step for step in steps)

    def done(self) -> None:
        """Check that nothing was asked beyond the script and nothing of it is left."""
        assert not self._unexpected, f"{self._unexpected} requests came that no step was for"
        assert not self._steps, f"{len(self._steps)} steps of the script were never asked for"

    async def arrived(self, count: int) -> None:
        """Wait until ``count`` requests have come in all."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def disconnected(self, count: int = 1) -> None:
        """Wait until ``count`` clients have gone away before their answer was over."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.disconnects >= count)

    @property
    def open_connections(self) -> int:
        return len(self._state.connections)

    async def __aenter__(self) -> Upstream:
        # uvicorn's protocol without its Server: that one polls, sleeps and takes the signals.
        config = uvicorn.Config(
            self._app,
            http="httptools",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=60,
        )
        config.load()

        def connect() -> asyncio.Protocol:
            self.connections_made += 1
            return HttpToolsProtocol(config, self._state, {})

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connect, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in list(self._state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.transport.abort()
        while self._state.tasks:
            await asyncio.wait(self._state.tasks)
        await self._server.wait_closed()
        if exc_type is None:
            self.done()

    async def _app(self, scope: Any, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        route = (scope["method"], scope["path"])
        if route == ("GET", "/v1/models"):
            await _whole(send, 200, orjson.dumps(self._model_list()))
        elif route == ("POST", "/v1/chat/completions"):
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            request = Request(orjson.loads(body), headers)
            exchange = _Exchange(request.body, self._next_answer(request), send)
            async with self._changed:
                self._changed.notify_all()
            await self._play(exchange, scope, receive)
        else:
            await _whole(send, 404, b'{"error": {"message": "Unknown path"}}')

    def _next_answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if self._steps:
            return self._steps.pop(0)
        if self.default is not None:
            return self.default(request.body)
        self._unexpected += 1
        return fail(400, message="no step of the script is for this request")

    async def _play(self, exchange: _Exchange, scope: Any, receive: Receive) -> None:
        """Answer, unless the client goes away first."""
        playing = asyncio.ensure_future(exchange.play())
        leaving = asyncio.ensure_future(_gone(receive))
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            playing.cancel()
            await asyncio.wait({playing})
            async with self._changed:
                self.disconnects += 1
                self._changed.notify_all()
        elif not playing.result():
            for connection in list(self._state.connections):
                if isinstance(connection, HttpToolsProtocol) and connection.scope is scope:
                    connection.transport.close()
        await leaving

    def _model_list(self) -> Json:
        data = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "upstream"}
            for name in self.models
        ]
        return {"object": "list", "data": data}


class _Exchange:
    """One request and the playing of its answer."""

    def __init__(self, body: Json, answer: Answer, send: Send) -> None:
        self.body = body
        self.answer = answer
        self.send = send
        options = body.get("stream_options") or {}
        self.tells_usage = answer.tells_usage and bool(options.get("include_usage"))
        self.head = {
            "id": "chatcmpl-" + ids.call_id()[5:],
            "created": int(time.time()),
            "model": body.get("model"),
            "system_fingerprint": "fp_scripted",
        }

    async def play(self) -> bool:
        """Whether the answer was sent to its end; ``False``: the connection is to be cut."""
        parts = list(self.answer.parts)
        while parts and callable(parts[0]):
            await parts.pop(0)()  # type: ignore[operator] # mypy does not narrow the element
        if self.answer.status != 200:
            headers = self.answer.headers
            await _whole(self.send, self.answer.status, self.answer.body, headers)
            return True
        if self.body.get("stream"):
            return await self._stream(parts)
        return await self._at_once(parts)

    async def _stream(self, parts: Sequence[Part]) -> bool:
        if parts and isinstance(parts[0], Cut):
            return False
        await self.send(_start(200, {"content-type": "text/event-stream; charset=utf-8"}))
        await self._chunk({"role": "assistant", "content": "", "refusal": None})
        count = 0
        for part in parts:
            if isinstance(part, Delta):
                await self._chunk(part.delta)
            elif isinstance(part, Call):
                await self._call(count, part)
                count += 1
            elif isinstance(part, Raw):
                await self._write(part.data)
            elif isinstance(part, Cut):
                return False
            else:
                await part()
        finish = self._finish(count)
        if finish:
            await self._chunk({}, finish)
        if self.tells_usage:
            await self._event({"choices": [], "usage": self._tokens().wire()})
        if self.answer.tells_done:
            await self._write(b"data: [DONE]\n\n")
        await self.send({"type": "http.response.body"})
        return True

    async def _at_once(self, parts: Sequence[Part]) -> bool:
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        for part in parts:
            if isinstance(part, Delta):
                for key, piece in part.delta.items():
                    message[key] = (message.get(key) or "") + piece
            elif isinstance(part, Call):
                function = {"name": part.name, "arguments": part.arguments}
                entry = {"id": part.id, "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(entry)
            elif isinstance(part, Raw):
                raise TypeError("raw bytes belong to a stream")
            elif isinstance(part, Cut):
                return False
            else:
                await part()
        finish = self._finish(len(message.get("tool_calls", ())))
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        whole = {**self.head, "object": "chat.completion", "choices": [choice]}
        await _whole(self.send, 200, orjson.dumps({**whole, "usage": self._tokens().wire()}))
        return True

    async def _call(self, index: int, part: Call) -> None:
        head = {"index": index, "id": part.id, "type": "function"}
        await self._chunk(
            {"tool_calls": [{**head, "function": {"name": part.name, "arguments": ""}}]}
        )
        for piece in _fragments(part.arguments):
            await self._chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    async def _chunk(self, delta: Json, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        await self._event({"choices": [choice], **({"usage": None} if self.tells_usage else {})})

    async def _event(self, fields: Json) -> None:
        value = {**self.head, "object": "chat.completion.chunk", **fields}
        await self._write(b"data: " + orjson.dumps(value) + b"\n\n")

    async def _write(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    def _finish(self, calls: int) -> str:
        if self.answer.finish is not None:
            return self.answer.finish
        return "tool_calls" if calls else "stop"

    def _tokens(self) -> Tokens:
        if self.answer.tokens is not None:
            return self.answer.tokens
        words = sum(len(_flat(m.get("content")).split()) for m in self.body["messages"])
        return Tokens(words, sum(isinstance(part, Delta | Call) for part in self.answer.parts))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, headers: Mapping[str, str]) -> Json:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _whole(
    send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    extra = {"content-type": "application/json", "content-length": str(len(body))}
    await send(_start(status, {**extra, **(headers or {})}))
    await send({"type": "http.response.body", "body": body})


def _fragments(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _flat(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or () if isinstance(part, dict))
