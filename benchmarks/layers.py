"""Where the time to the first text of a run goes, layer by layer.

    python -m benchmarks.layers --turns 200

The embedded server's own spans (``docs/guides/operate.md``) tell when each layer began and ended;
client and server share this process, so one clock tells all. The spans themselves cost a tenth of a
millisecond. Each turn is followed by one of the model alone.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from assistants_server.embedded import EmbeddedServer
from assistants_server.settings import Settings

from .first_text import TEXT, direct, new_assistant
from .measure import HEAD, child, machine, row

WARM_UP = 20
REQUEST = "POST /v1/threads/{thread_id}/runs"
LAYERS = (
    "the SDK builds the request",
    "the server checks it",
    "one transaction (run stored and begun, thread read), the question is built",
    "the model answers",
    "one transaction: message and step stored",
    "events written, the SDK parses them",
)


async def turn(
    client: openai.AsyncOpenAI, assistant_id: str, spans: InMemorySpanExporter
) -> list[int]:
    """When each layer of one run ended, in nanoseconds; the first entry is the beginning."""
    thread = await client.beta.threads.create()
    spans.clear()
    began, first = time.time_ns(), 0
    async for event in await client.beta.threads.runs.create(
        thread_id=thread.id,
        assistant_id=assistant_id,
        additional_messages=[{"role": "user", "content": TEXT}],
        stream=True,
    ):
        if not first and event.event == "thread.message.delta":
            first = time.time_ns()
    while all(span.name != REQUEST for span in spans.get_finished_spans()):
        await asyncio.sleep(0)  # the stream's last byte arrives before its request has ended
    done = spans.get_finished_spans()
    request = named(done, REQUEST)
    created = named(done, "write run_creation.create")
    asked = named(done, "chat")
    opened = named(done, "progress turn.open_message")
    (heard,) = asked.events
    return [
        began,
        request.start_time or 0,
        created.start_time or 0,
        asked.start_time or 0,
        heard.timestamp,
        opened.end_time or 0,
        first,
    ]


def named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = (span for span in spans if span.name == name)
    return found


async def measure(turns: int, folder: Path) -> str:
    spans = InMemorySpanExporter()
    tracer = TracerProvider(shutdown_on_exit=False)
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer)
    taken: dict[str, list[float]] = {layer: [] for layer in (*LAYERS, "all", "the model alone")}
    async with child("-m", "benchmarks.scripted_model", says=r"(http://\S+)") as url:
        settings = Settings(data=folder, upstream_url=url, upstream_key="none", tracing=True)
        async with (
            EmbeddedServer(settings) as server,
            openai.AsyncOpenAI(base_url=url, api_key="none") as model,
            server.client() as client,
        ):
            assistant_id = await new_assistant(client)
            for number in range(WARM_UP + turns):
                times = await turn(client, assistant_id, spans)
                alone = await direct(model)
                if number < WARM_UP:
                    continue
                for layer, start, end in zip(LAYERS, times, times[1:], strict=False):
                    taken[layer].append((end - start) / 1e9)
                taken["all"].append((times[-1] - times[0]) / 1e9)
                taken["the model alone"].append(alone)
    return "\n".join([HEAD, *(row(layer, samples) for layer, samples in taken.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description="The time to first text, layer by layer.")
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK, on every call
    print(f"Time to first text, embedded, by layer, {turns} turns; {machine()}.\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        print(asyncio.run(measure(turns, Path(folder))))


if __name__ == "__main__":
    main()
