"""OpenTelemetry spans of a request, a run, a model's call and a transaction.

Each kind wraps one part that the app is built of; a server that does not trace never imports this
module and pays nothing. Attributes are ids, names and numbers. Text of users and models does not
get here, and neither do the messages of exceptions, which may quote it.

Where the process has set up OpenTelemetry itself, as LiveKit's agents may, the spans go there and
join its traces. Otherwise they are exported as the ``OTEL_…`` variables say:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, Concatenate, ParamSpec, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from sqlalchemy import Connection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import log
from .domain.model_exchange import ModelRequest, Piece, TurnEnd, TurnUsage
from .engine.run_execution import RunExecution
from .engine.worker import Worker
from .errors import Unavailable
from .providers.contract import ModelInfo, ModelProvider, ProviderError
from .store.database import Database, DatabaseError
from .version import __version__

P = ParamSpec("P")
T = TypeVar("T")


class Tracing:
    """Where the spans of one server go. :meth:`start` it, use it, :meth:`aclose` it."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        """``provider``: whoever gives it closes it. ``None``: as the environment says."""
        self._own: TracerProvider | None = None
        if provider is None:
            provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):  # nobody has set one up
            provider = self._own = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self.tracer = provider.get_tracer("assistants_server", __version__)

    def start(self) -> None:
        """Raises:
        Unavailable: the exporter that the environment names is not installed.
        """
        if self._own is not None:
            self._own.add_span_processor(BatchSpanProcessor(_exporter()))

    async def aclose(self) -> None:
        """Send what is left."""
        if self._own is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._own.shutdown)

    async def open_database(self, url: str) -> Database:
        database = await TracedDatabase.open(url)
        assert isinstance(database, TracedDatabase), "made by the class that was asked"
        database.tracer = self.tracer
        database.system = "postgresql" if url.startswith("postgres") else "sqlite"
        return database

    def worker(self, **parts: Any) -> Worker:
        worker = TracedWorker(**parts)
        worker.tracer = self.tracer
        return worker

    def requests(self, app: ASGIApp) -> TracedRequests:
        return TracedRequests(app, self.tracer)

    def provider(self, provider: ModelProvider) -> ModelProvider:
        return TracedProvider(provider, self.tracer)


def _resource() -> Resource:
    ours = {"service.name": "assistants-server", "service.version": __version__}
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def _exporter() -> SpanExporter:
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for entry in entry_points(group="opentelemetry_traces_exporter", name=name):
        exporter: SpanExporter = entry.load()()
        return exporter
    raise Unavailable(f"There is no OpenTelemetry exporter '{name}': is its package installed?")


class TracedRequests:
    """Around the app, inside of ``RequestTrace``. A stream's span lasts as long as the stream."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carrier = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "assistants.request.id": log.request_id.get() or "",
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _answered(span, message["status"])
                await send(message)

            try:
                await self._app(scope, receive, send_traced)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise
            finally:
                path = getattr(scope.get("endpoint"), "path", None)
                if path is not None:
                    span.update_name(f"{method} {path}")
                    span.set_attribute("http.route", path)


class TracedWorker(Worker):
    """A run's span begins in the request that launches it and may outlive it."""

    tracer: Tracer

    def _begin(self, execution: RunExecution) -> asyncio.Task[None]:
        run = execution.run
        span = self.tracer.start_span(
            "run",
            attributes={
                "assistants.run.id": run.id,
                "assistants.assistant.id": run.assistant_id,
                "gen_ai.conversation.id": run.thread_id,
            },
        )

        def over(_: asyncio.Task[None]) -> None:
            ended = execution.run
            span.set_attribute("assistants.run.status", ended.status)
            if ended.last_error is not None:
                _failed(span, ended.last_error.code)
            span.end()

        with trace.use_span(span):
            task = super()._begin(execution)
        task.add_done_callback(over)
        return task


class TracedProvider:
    """A model's call, from the question to its last piece; the question carries the trace on."""

    def __init__(self, provider: ModelProvider, tracer: Tracer) -> None:
        self._provider = provider
        self._tracer = tracer

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        span = self._tracer.start_span(
            "chat",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": request.model},
        )
        headers: dict[str, str] = {}
        propagate.inject(headers, context=trace.set_span_in_context(span))
        first = True
        try:
            async with aclosing(self._provider.stream(replace(request, headers=headers))) as pieces:
                async for batch in pieces:
                    if first:
                        span.add_event("first token")
                        first = False
                    _note(span, batch)
                    yield batch
        except ProviderError as error:
            _failed(span, error.code)
            raise
        finally:
            span.end()

    def context_window(self, model: str) -> int:
        return self._provider.context_window(model)

    async def models(self) -> Sequence[ModelInfo]:
        return await self._provider.models()

    async def aclose(self) -> None:
        await self._provider.aclose()


class TracedDatabase(Database):
    """Transactions of requests and runs. What the server does for itself has no trace to be in."""

    tracer: Tracer
    system: str

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with self._transaction("write", function):
            return await super().write(function, *args, **kwargs)

    async def write_calling(
        self,
        committed: Callable[[T], None],
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with self._transaction("write", function):
            return await super().write_calling(committed, function, *args, **kwargs)

    async def progress(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with self._transaction("progress", function):
            return await super().progress(function, *args, **kwargs)

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with self._transaction("read", function):
            return await super().read(function, *args, **kwargs)

    @contextmanager
    def _transaction(self, kind: str, function: Callable[..., object]) -> Iterator[None]:
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        module = function.__module__.rpartition(".")[2]
        name = f"{module}.{function.__name__}"
        span = self.tracer.start_span(
            f"{kind} {name}",
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": self.system, "db.operation.name": name},
        )
        try:
            yield
        except DatabaseError as error:  # a refusal is none: the database did what it was asked
            _failed(span, type(error).__name__)
            raise
        finally:
            span.end()


def _note(span: Span, batch: Sequence[Piece]) -> None:
    for piece in batch:
        if isinstance(piece, TurnEnd):
            span.set_attribute("gen_ai.response.finish_reasons", [piece.reason])
        elif isinstance(piece, TurnUsage):
            span.set_attribute("gen_ai.usage.input_tokens", piece.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", piece.usage.completion_tokens)


def _answered(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _failed(span, str(status))


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
