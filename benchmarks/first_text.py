"""Time to first text that the server adds to a model.

    make bench                      # 200 pairs; ARGS="--pairs 20" for a quick look

One pair is a streamed run on a fresh thread and a streamed Chat Completions request to the same
model, both through the official SDK on warm connections; the figure is their difference. The model
answers at once, so everything that is measured is overhead. Model and loopback server have their
own processes; the embedded server shares ours. The three kinds of request alternate, so that
whatever disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import openai

from assistants_server.embedded import EmbeddedServer
from assistants_server.settings import Settings

from .measure import HEAD, child, machine, row

WARM_UP = 20
TEXT = "Say something."

Ask = Callable[[], Awaitable[float]]


async def direct(model: openai.AsyncOpenAI) -> float:
    """Seconds until the model's own first text."""
    began = time.perf_counter()
    first = None
    stream = await model.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": TEXT}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter()
    assert first is not None
    return first - began


async def new_assistant(server: openai.AsyncOpenAI) -> str:
    return (await server.beta.assistants.create(model="gpt-4o")).id


async def through(server: openai.AsyncOpenAI, assistant_id: str) -> float:
    """Seconds until the first text of a run that also adds the user's message."""
    thread = await server.beta.threads.create()
    began = time.perf_counter()
    first = None
    stream = await server.beta.threads.runs.create(
        thread_id=thread.id,
        assistant_id=assistant_id,
        additional_messages=[{"role": "user", "content": TEXT}],
        stream=True,
    )
    async for event in stream:
        if first is None and event.event == "thread.message.delta":
            first = time.perf_counter()
    assert first is not None
    return first - began


async def measure(pairs: int, folder: Path) -> dict[str, list[float]]:
    listens = r"(http://[^\s,]+)"
    async with child("-m", "benchmarks.scripted_model", says=r"(http://\S+)") as url:
        upstream = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        serve = ("-m", "assistants_server", "serve", "--port", "0", "--data", str(folder / "http"))
        settings = Settings(data=folder / "embedded", upstream_url=url, upstream_key="none")
        async with (
            child(*serve, says=listens, environment=upstream) as address,
            EmbeddedServer(settings) as server,
            openai.AsyncOpenAI(base_url=url, api_key="none") as model,
            openai.AsyncOpenAI(base_url=address, api_key="none") as loopback,
            server.client() as embedded,
        ):
            kinds: dict[str, Ask] = {
                "model alone": partial(direct, model),
                "loopback HTTP": partial(through, loopback, await new_assistant(loopback)),
                "embedded": partial(through, embedded, await new_assistant(embedded)),
            }
            taken: dict[str, list[float]] = {name: [] for name in kinds}
            order = list(kinds)
            for _ in range(WARM_UP + pairs):
                for name in order:
                    taken[name].append(await kinds[name]())
                order.append(order.pop(0))  # nobody always comes first
            return {name: samples[WARM_UP:] for name, samples in taken.items()}


def report(taken: dict[str, list[float]]) -> str:
    alone = taken["model alone"]
    lines = [HEAD, row("model alone", alone)]
    for name, samples in taken.items():
        if samples is not alone:
            added = [one - other for one, other in zip(samples, alone, strict=True)]
            lines.append(row(f"added by the server, {name}", added))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to first text that the server adds.")
    parser.add_argument("--pairs", type=int, default=200)
    pairs = parser.parse_args().pairs
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK, on every call
    print(f"Time to first text, {pairs} pairs; {machine()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(report(asyncio.run(measure(pairs, Path(folder)))))


if __name__ == "__main__":
    main()
