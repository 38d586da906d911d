"""Time to first text that the server adds to a model.

    make bench                      # 200 pairs; ARGS="--pairs 20" for a quick look

One pair is a streamed run on a fresh thread and a streamed Chat Completions request to the same
model, both through the official SDK on warm connections; the figure is their difference. The model
answers at once, so everything that is measured is overhead. Model and loopback server have their
own processes; the embedded server shares ours. The kinds of request alternate, so that whatever
disturbs the machine disturbs all of them. Long threads show the model as many messages as short
ones, except in the last row, where they fill its window.
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

from assistants_server.domain.drafts import ThreadDraft
from assistants_server.embedded import EmbeddedServer
from assistants_server.settings import Settings
from assistants_server.store import threads
from assistants_server.store.database import Database

from .deployments import serve
from .measure import HEAD, child, machine, row
from .store_ops import fill

WARM_UP = 20
ALONE = "model alone"
PROJECT = "default"
SHOWN = 10
WINDOW = 8000
"""Tokens of the model's window: about four hundred of the messages that long threads have here."""
TEXT = "Say something."
INSTRUCTIONS = "You talk to people on the telephone. Be brief."

Ask = Callable[[], Awaitable[float]]


async def direct(model: openai.AsyncOpenAI) -> float:
    """Seconds until the model's own first text."""
    began = time.perf_counter()
    first = None
    stream = await model.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": TEXT},
        ],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter()
    assert first is not None
    return first - began


async def new_assistant(server: openai.AsyncOpenAI) -> str:
    return (await server.beta.assistants.create(model="gpt-4o", instructions=INSTRUCTIONS)).id


async def through(
    server: openai.AsyncOpenAI,
    assistant_id: str,
    thread_id: str | None = None,
    shown: int | None = None,
) -> float:
    """Seconds until the first text of a run that also adds the user's message.

    Args:
        thread_id: a new thread, if none is given.
        shown: how many messages the model sees; as many as its window holds, if not given.
    """
    if thread_id is None:
        thread_id = (await server.beta.threads.create()).id
    began = time.perf_counter()
    first = None
    stream = await server.beta.threads.runs.create(
        thread_id=thread_id,
        assistant_id=assistant_id,
        additional_messages=[{"role": "user", "content": TEXT}],
        truncation_strategy=(
            {"type": "last_messages", "last_messages": shown} if shown else {"type": "auto"}
        ),
        stream=True,
    )
    async for event in stream:
        if first is None and event.event == "thread.message.delta":
            first = time.perf_counter()
    if first is None:
        raise RuntimeError(f"no text; the stream ended with {event}")
    return first - began


async def long_thread(folder: Path, messages: int) -> str:
    """A thread of so many messages in the server's database, without the hours of talking."""
    database = await Database.open(f"sqlite:///{folder / 'assistants.db'}")
    try:
        thread = await database.write(threads.create, PROJECT, ThreadDraft(), now=1)
        await database.write(fill, thread.id, messages)
    finally:
        await database.close()
    return thread.id


async def measure(pairs: int, lengths: list[int], folder: Path) -> dict[str, list[float]]:
    (http := folder / "http").mkdir()
    async with child("-m", "benchmarks.scripted_model", says=r"(http://\S+)") as url:
        settings = Settings(data=folder / "embedded", upstream_url=url, upstream_key="none")
        async with (
            serve(url, data=str(http), context_tokens=str(WINDOW)) as (address,),
            EmbeddedServer(settings) as server,
            openai.AsyncOpenAI(base_url=url, api_key="none") as model,
            openai.AsyncOpenAI(base_url=address, api_key="none") as loopback,
            server.client() as embedded,
        ):
            assistant_id = await new_assistant(loopback)
            kinds: dict[str, Ask] = {
                ALONE: partial(direct, model),
                "added, loopback HTTP": partial(through, loopback, assistant_id),
                "added, embedded": partial(through, embedded, await new_assistant(embedded)),
            }
            for length in lengths:
                thread_id = await long_thread(http, length)
                name = f"added, loopback HTTP, {SHOWN} shown of {length:,} messages"
                kinds[name] = partial(through, loopback, assistant_id, thread_id, SHOWN)
            name = f"added, loopback HTTP, a full window of {lengths[-1]:,} messages"
            kinds[name] = partial(through, loopback, assistant_id, thread_id)
            taken: dict[str, list[float]] = {name: [] for name in kinds}
            order = list(kinds)
            for _ in range(WARM_UP + pairs):
                for name in order:
                    taken[name].append(await kinds[name]())
                order.append(order.pop(0))  # nobody always comes first
            return {name: samples[WARM_UP:] for name, samples in taken.items()}


def report(taken: dict[str, list[float]]) -> str:
    alone = taken.pop(ALONE)
    lines = [HEAD, row(ALONE, alone)]
    for name, samples in taken.items():
        added = [one - other for one, other in zip(samples, alone, strict=True)]
        lines.append(row(name, added))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to first text that the server adds.")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--messages", default="10,1000,100000", help="lengths of threads")
    given = parser.parse_args()
    pairs, lengths = given.pairs, [int(length) for length in given.messages.split(",")]
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK, on every call
    print(f"Time to first text, {pairs} pairs; {machine()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(report(asyncio.run(measure(pairs, lengths, Path(folder)))))


if __name__ == "__main__":
    main()
