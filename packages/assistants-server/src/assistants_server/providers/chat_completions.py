"""Any OpenAI-compatible Chat Completions endpoint, through the HTTP client of the official SDK.

Not through the SDK itself, because a caller waits on the telephone: ``chat.completions.create``
walks through all messages (7 ms for 40 of them), its retries may wait for minutes, and its plain
``post`` takes 0.4 ms longer than the request. The body is read in ``chat_stream``, and what fails
is said in ``chat_errors``.

A request lives in one task of its own, from the connection to the last byte. Closing the stream
ends that task, and with it the upstream connection, whichever task closes it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx2
import orjson

from ..clock import Clock, SystemClock
from ..domain.model_exchange import ModelRequest, Piece
from ..version import __version__
from .chat_errors import Question, Refusal, broke_off, explain, explain_in_stream, garbage
from .chat_stream import Garbage, StreamError, Turn
from .contract import ModelInfo, ProviderError

OPENAI_URL = "https://api.openai.com/v1"

CONNECT_SECONDS = 5.0
# Turns of a conversation are many seconds apart: a connection must survive the listening.
KEEP_ALIVE_SECONDS = 120.0
# A failed attempt is repeated after these seconds, or after what Retry-After asks for if that is
# still worth waiting for while somebody listens.
RETRY_SECONDS = (0.1, 0.5)
LONGEST_RETRY_AFTER = 5.0
RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
# Bytes read ahead of a consumer that is slower than the model.
READ_AHEAD = 1024 * 1024
# How long the end of a body may take after [DONE], so that its connection can be used again.
TAIL_SECONDS = 1.0

# Parameters that not every server knows. One that an endpoint refuses by name is left out from
# then on; the two names of the token bound replace each other.
OPTIONAL = ("stream_options", "parallel_tool_calls", "user")
TOKEN_BOUNDS = ("max_completion_tokens", "max_tokens")
_REFUSAL = re.compile(
    r"unsupported|unrecognized|unknown|unexpected|not (supported|permitted|allowed|recognized)"
    r"|does(n't| not) support|extra (inputs|fields|parameters)|forbidden",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


class ChatCompletions:
    """One endpoint. Use it in one event loop and close it."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        context_window: int = 128_000,
        timeout: float = 120.0,
        clock: Clock | None = None,
    ) -> None:
        """``timeout``: seconds without a byte, before the first and between any two.

        Raises:
            ProviderError: the URL or the key cannot be used.
        """
        url = (base_url or OPENAI_URL).strip().rstrip("/")
        key = (api_key or "").strip()
        if not key.isascii() or not key.isprintable():
            raise ProviderError("The upstream key holds characters that no key has.")
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL:
            parsed = httpx2.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ProviderError(
                f"The upstream URL {_without_secrets(url)!r} is not one that can be called. "
                "It looks like http://127.0.0.1:11434/v1."
            )
        port = f":{parsed.port}" if parsed.port is not None else ""
        self.host = f"{parsed.host}{port}"
        self.base_url = _without_secrets(url)
        self._context_window = context_window
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._refused: set[str] = set()
        if not self.host.endswith(("api.openai.com", ".openai.azure.com")):
            # Elsewhere the old name is understood most widely, and the new one often ignored.
            self._bounds = TOKEN_BOUNDS[::-1]
        else:
            self._bounds = TOKEN_BOUNDS
        # One URL for each path: a query, such as Azure's api-version, goes along.
        self._urls = {
            path: parsed.copy_with(path=parsed.path.rstrip("/") + path)
            for path in ("/chat/completions", "/models")
        }
        self._http = httpx2.AsyncClient(
            headers=_headers(key),
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=100,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
            ),
            timeout=httpx2.Timeout(timeout, connect=CONNECT_SECONDS),
            follow_redirects=True,
        )
        self._readings: set[asyncio.Task[None]] = set()

    def context_window(self, model: str) -> int:
        return self._context_window

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """See :class:`ModelProvider`. Nothing is sent before the first batch is asked for."""
        question = Question(self.host, request.model, self._timeout)
        reading = _Reading()
        task = asyncio.create_task(self._read(request, reading, question), name="upstream-request")
        self._readings.add(task)
        task.add_done_callback(self._readings.discard)
        turn = Turn()
        try:
            while not turn.over:
                data = await reading.take()
                if data is None:
                    break
                try:
                    at_once = reading.at_once and data.lstrip()[:1] == b"{"
                    pieces = turn.whole(data) if at_once else turn.feed(data)
                except StreamError as error:
                    log.debug("error in the stream of %s: %r", self.host, error.body)
                    raise explain_in_stream(error.body, question) from None
                if pieces:
                    yield pieces
            if not turn.over:
                last = self._last_pieces(turn, reading, question)
                if last:
                    yield last
            yield turn.end()
        except Garbage:
            raise garbage(question) from None
        finally:
            if turn.over and not task.done():
                asyncio.get_running_loop().call_later(TAIL_SECONDS, task.cancel)
            else:
                task.cancel()
                await asyncio.wait({task})

    async def models(self) -> Sequence[ModelInfo]:
        question = Question(self.host, "", self._timeout)
        try:
            response = await self._http.get(self._urls["/models"])
            if response.status_code >= 400:
                raise Refusal(response)
            listed = orjson.loads(response.content)["data"]
            return [
                ModelInfo(
                    id=str(line["id"]),
                    owned_by=str(line.get("owned_by") or self.host),
                    created=int(line.get("created") or 0),
                )
                for line in listed
            ]
        except (Refusal, httpx2.RequestError) as error:
            raise explain(error, question) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise garbage(question) from None

    async def prewarm(self) -> None:
        """Open the connection that the first turn will use. Failures show there, not here."""
        try:
            await self.models()
        except ProviderError as error:
            log.debug("could not prewarm %s: %s", self.host, error)

    async def aclose(self) -> None:
        tasks = list(self._readings)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._http.aclose()

    # One request ------------------------------------------------------------------------------

    async def _read(self, request: ModelRequest, reading: _Reading, question: Question) -> None:
        """The task of one request: ask, then hand on what the network brings."""
        response: httpx2.Response | None = None
        try:
            response = await self._open(request, question)
            reading.at_once = "application/json" in response.headers.get("content-type", "")
            if reading.at_once:
                await reading.put(await response.aread())
            else:
                async for data in response.aiter_bytes():
                    await reading.put(data)
        except ProviderError as error:
            reading.failure = error
        except (Refusal, httpx2.RequestError) as error:
            log.debug("reading from %s failed: %r", self.host, error)
            reading.failure = explain(error, question)
        except Exception as error:  # raised again where the stream is consumed
            reading.failure = error
        finally:
            if response is not None:
                await response.aclose()
            reading.finish()

    async def _open(self, request: ModelRequest, question: Question) -> httpx2.Response:
        attempts = 0
        while True:
            body = self._body(request)
            try:
                return await self._post(body, request.headers)
            except (Refusal, httpx2.RequestError) as error:
                if isinstance(error, Refusal) and self._learns(error, body):
                    continue
                delay = _delay(error, attempts)
                if delay is None:
                    log.debug("%s refused a request: %r", self.host, error)
                    raise explain(error, question) from None
            attempts += 1
            await self._clock.sleep(delay)

    async def _post(self, body: dict[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
        try:
            content = orjson.dumps(body)
        except TypeError:  # half a surrogate pair in somebody's text: no server reads it
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        asked = self._http.build_request(
            "POST", self._urls["/chat/completions"], content=content, headers=headers
        )
        response = await self._http.send(asked, stream=True)
        if response.status_code < 400:
            return response
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise Refusal(response)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = request.tools
            _add(body, "tool_choice", request.tool_choice)
            _add(body, "parallel_tool_calls", request.parallel_tool_calls)
        _add(body, "temperature", request.temperature)
        _add(body, "top_p", request.top_p)
        _add(body, "response_format", request.response_format)
        _add(body, "reasoning_effort", request.reasoning_effort)
        _add(body, "user", request.user)
        bound = next(name for name in self._bounds if name not in self._refused)
        _add(body, bound, request.max_completion_tokens)
        return {name: value for name, value in body.items() if name not in self._refused}

    def _learns(self, error: Refusal, body: dict[str, Any]) -> bool:
        """Whether the endpoint refused a parameter by name that can be left out or renamed."""
        if error.status not in (400, 422):
            return False
        text = error.text
        for name in (*OPTIONAL, *TOKEN_BOUNDS):
            if name not in body or not (error.param == name or name in text):
                continue
            if not _REFUSAL.search(text):
                continue
            if name in TOKEN_BOUNDS and self._refused.intersection(TOKEN_BOUNDS) - {name}:
                continue  # neither name is known: the bound cannot be kept, so the error stands
            self._refused.add(name)
            log.debug("%s does not know %s", self.host, name)
            return True
        return False

    def _last_pieces(self, turn: Turn, reading: _Reading, question: Question) -> Sequence[Piece]:
        """The body is over without ``[DONE]``: in order, or broken off."""
        if reading.failure is not None:
            if turn.ended:
                return []
            raise reading.failure
        try:
            pieces = turn.close()
        except Garbage:
            raise broke_off(question) from None
        except StreamError as error:
            raise explain_in_stream(error.body, question) from None
        if not turn.ended:
            raise broke_off(question)
        return pieces


class _Reading:
    """Bytes on their way from the request's task to the consumer.

    A network read is often cut into many HTTP chunks; they are handed over together.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.at_once = False
        self._data: list[bytes] = []
        self._size = 0
        self._finished = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data)
        self._news.set()
        while self._size >= READ_AHEAD:
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        self._finished = True
        self._news.set()

    async def take(self) -> bytes | None:
        """All that has come since the last time; ``None`` at the end."""
        if not self._data:
            if self._finished:
                return None
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._data)
        self._data.clear()
        self._size = 0
        self._room.set()
        return data or None


def _add(body: dict[str, Any], name: str, value: object) -> None:
    if value is not None:
        body[name] = value


def _headers(key: str) -> dict[str, str]:
    """What every request carries: the SDK's own variables name organization and project."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"assistants-server/{__version__}",
    }
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, variable in (
        ("OpenAI-Organization", "OPENAI_ORG_ID"),
        ("OpenAI-Project", "OPENAI_PROJECT_ID"),
    ):
        if value := os.environ.get(variable):
            headers[name] = value
    return headers


def _delay(error: Refusal | httpx2.RequestError, attempts: int) -> float | None:
    """Seconds until the next attempt; ``None``: this one was the last."""
    if attempts >= len(RETRY_SECONDS):
        return None
    if isinstance(error, httpx2.TimeoutException):
        # Connecting may be tried again; a model that was silent for minutes has used them up.
        again = isinstance(error, httpx2.ConnectTimeout)
        return RETRY_SECONDS[attempts] if again else None
    if not isinstance(error, Refusal):
        return RETRY_SECONDS[attempts]
    if error.is_quota or error.status not in RETRIED_STATUS:
        return None
    wait = _retry_after(error.headers)
    if wait is None:
        return RETRY_SECONDS[attempts]
    return wait if wait <= LONGEST_RETRY_AFTER else None


def _retry_after(headers: httpx2.Headers) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):  # a date needs two clocks that agree: not used
            continue
        if seconds >= 0:
            return seconds
    return None


def _without_secrets(url: str) -> str:
    """The URL without what may stand before an ``@`` or after a ``?``."""
    return re.sub(r"//[^/@]*@", "//", url.split("?")[0])
