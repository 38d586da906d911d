"""Many runs at once, the rate of a long reply, the weight of an open stream, the time of a start.

    python -m benchmarks.server_load --runs 1,10,50,200 --rounds 3

Every round asks the model directly and then through the server, so that both meet the same machine.
In the first table the model says 50 tokens, one each 20 ms: the ideal reply takes 980 ms. Readers
are raw sockets, because the SDK's own parsing would be most of what is measured; only the rate of a
long reply is also taken through the SDK. Model and server have a process each, two replicas one
each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import openai
import psutil  # type: ignore[import-untyped]

from .deployments import Deployment, on_postgresql, on_sqlite, serve, server_of
from .measure import HEAD, child, machine, row
from .raw_client import Reply, direct, new_assistant, through

DEPLOYMENTS: Mapping[str, Deployment] = {
    "SQLite": on_sqlite,
    "PostgreSQL": on_postgresql,
    "PostgreSQL, two replicas": partial(on_postgresql, replicas=2),
}
LONG_REPLY = 2000
SAYS = r"(http://\S+)"


def model(*, words: int, pace: int = 0) -> tuple[str, ...]:
    return ("-m", "benchmarks.scripted_model", "--words", str(words), "--pace", str(pace))


async def at_once(count: int, one: Callable[[], Awaitable[Reply]]) -> list[Reply]:
    return await asyncio.gather(*(one() for _ in range(count)))


async def many(url: str, name: str, deployment: Deployment, runs: list[int], rounds: int) -> None:
    async with deployment(url) as servers:
        assistant_id, turns = await new_assistant(servers[0]), itertools.cycle(servers)

        def next_replica() -> Awaitable[Reply]:
            return through(next(turns), assistant_id)

        kinds: dict[str, Callable[[], Awaitable[Reply]]] = {
            "model alone": partial(direct, url),
            name: next_replica,
        }
        for one in kinds.values():  # connections, and what is imported on first use
            await at_once(max(runs), one)
        for count in runs:
            taken: dict[str, list[Reply]] = {kind: [] for kind in kinds}
            order = list(kinds)
            for _ in range(rounds):
                for kind in order:
                    taken[kind] += await at_once(count, kinds[kind])
                order.reverse()
            for kind, replies in taken.items():
                print(row(f"{count} at once, first text, {kind}", [one.first for one in replies]))
                print(row(f"{count} at once, reply, {kind}", [one.whole for one in replies]))


async def starts(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        for attempt in ("on an empty folder", "on a used one"):
            began = time.perf_counter()
            async with serve(url, data=folder):
                print(f"Started in {(time.perf_counter() - began) * 1000:.0f} ms {attempt}.")


async def weigh(url: str, streams: int) -> None:
    """What one more open stream takes, while its run is under way."""
    async with on_sqlite(url) as (server,):
        assistant_id = await new_assistant(server)
        await at_once(20, partial(through, server, assistant_id))
        process = psutil.Process(server_of(server))
        before = most = process.memory_info().rss
        replies = asyncio.ensure_future(at_once(streams, partial(through, server, assistant_id)))
        while not replies.done():
            await asyncio.wait({replies}, timeout=0.05)
            most = max(most, process.memory_info().rss)
        weight = (most - before) / streams / 1024
        print(f"An open stream takes {weight:.0f} KB ({streams} open).", flush=True)


async def rates(rounds: int) -> None:
    """Tokens of a long reply in a second."""
    async with child(*model(words=LONG_REPLY), says=SAYS) as url, on_sqlite(url) as (server,):
        assistant_id = await new_assistant(server)
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none") as alone,
            openai.AsyncOpenAI(base_url=server, api_key="none") as sdk,
        ):
            kinds: dict[str, Callable[[], Awaitable[float]]] = {
                "raw, model alone": partial(raw_rate, partial(direct, url)),
                "raw, server": partial(raw_rate, partial(through, server, assistant_id)),
                "SDK, model alone": partial(chat_rate, alone),
                "SDK, server": partial(run_rate, sdk, assistant_id),
            }
            taken: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(rounds + 1):
                for name, one in kinds.items():
                    taken[name].append(await one())
    print(f"\n| tokens a second, a reply of {LONG_REPLY:,} | median | lowest | highest |")
    print("|---|---|---|---|")
    for name, all_rates in taken.items():
        warm = all_rates[1:]
        figures = (statistics.median(warm), min(warm), max(warm))
        cells = " | ".join(f"{figure:,.0f}" for figure in figures)
        print(f"| {name} | {cells} |", flush=True)


async def raw_rate(one: Callable[[], Awaitable[Reply]]) -> float:
    reply = await one()
    return LONG_REPLY / reply.whole


async def chat_rate(sdk: openai.AsyncOpenAI) -> float:
    began, count = time.perf_counter(), 0
    async for chunk in await sdk.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Go"}], stream=True
    ):
        count += bool(chunk.choices and chunk.choices[0].delta.content)
    return count / (time.perf_counter() - began)


async def run_rate(sdk: openai.AsyncOpenAI, assistant_id: str) -> float:
    began, count = time.perf_counter(), 0
    async for event in await sdk.beta.threads.create_and_run(
        assistant_id=assistant_id,
        thread={"messages": [{"role": "user", "content": "Go"}]},
        stream=True,
    ):
        count += event.event == "thread.message.delta"
    return count / (time.perf_counter() - began)


async def measure(runs: list[int], rounds: int) -> None:
    async with child(*model(words=50, pace=20), says=SAYS) as url:
        await starts(url)
        await weigh(url, 2 * max(runs))
        print(f"\n{HEAD}", flush=True)
        for name, deployment in DEPLOYMENTS.items():
            await many(url, name, deployment, runs, rounds)
    await rates(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Many runs at once.")
    parser.add_argument("--runs", default="1,10,50,200", help="how many at once")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK, on every call
    runs = [int(count) for count in given.runs.split(",")]
    print(f"Runs at once, {given.rounds} rounds; {machine()}.\n", flush=True)
    asyncio.run(measure(runs, given.rounds))


if __name__ == "__main__":
    main()
