"""The server's measurements as Prometheus reads them. Numbers only, of all projects together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ..errors import NotFound
from ..measurements import Measurements, Times
from ..store import runs
from ..store.database import Database
from ..wire.parts import NoQuery
from .endpoints import Call, Endpoint

if TYPE_CHECKING:
    from prometheus_client import Metric

_PREFIX = "assistants_"


async def metrics(call: Call[None, NoQuery]) -> Response:
    if not call.server.settings.metrics:
        raise NotFound("Metrics are switched off on this server.")
    # Half of what is imported when a server starts, for something that many never ask.
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest

    server = call.server
    active = await server.database.read(runs.count_active)
    registry = CollectorRegistry()
    registry.register(_Collector(server.measurements, server.database, active))
    ProcessCollector(registry=registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_1_0_0)


class _Collector:
    def __init__(
        self, measured: Measurements, database: Database, active: Mapping[str, int]
    ) -> None:
        self._measured = measured
        self._database = database
        self._active = active

    def collect(self) -> Iterable[Metric]:
        measured = self._measured
        yield _gauge("runs_active", "Runs under way, of all replicas.", "status", self._active)
        yield _gauge("streams_open", "Run streams being read.", "", {"": measured.open_streams})
        yield _counter("runs_ended", "Runs that ended here.", ("status",), measured.runs_ended)
        yield _counter("requests", "Answers given.", ("method", "status"), measured.requests)
        yield _counter(
            "upstream_errors", "Model calls that failed.", ("code",), measured.upstream_errors
        )
        tokens = {"prompt": measured.prompt_tokens, "completion": measured.completion_tokens}
        yield _counter("tokens", "Tokens, as the models count them.", ("kind",), Counter(tokens))
        yield _times("run_queue_seconds", "From asked for to in progress.", measured.queue_seconds)
        yield _times(
            "first_token_seconds",
            "From asked for to the model's first token.",
            measured.first_token_seconds,
        )
        for name, times in self._database.seconds.items():
            yield _times(f"database_{name}_seconds", f"Time of a {name}, waiting included.", times)


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(_PREFIX + name, text, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(_PREFIX + name, text, labels=labels)
    for key, number in counts.items():
        values = key if isinstance(key, tuple) else (key,)
        family.add_metric([str(value) for value in values], number)
    return family


def _times(name: str, text: str, times: Times) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    return HistogramMetricFamily(
        _PREFIX + name, text, buckets=list(times.buckets()), sum_value=times.sum
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/metrics",
        metrics,
        "What Prometheus reads.",
        "The measurements of this process, as text.",
        media="text/plain",
        beta=False,
        open=True,
    ),
)
