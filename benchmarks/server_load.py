"""Many runs at once, what an open stream weighs, and how long a start takes.

    python -m benchmarks.server_load --runs 1,10,50,200 --rounds 3

Every round asks the model directly and then through the server, so that both meet the same machine.
The model says 50 tokens, one each 20 ms: the ideal reply takes 980 ms. Readers are raw sockets,
because the SDK's own parsing would be most of what is measured. Model and server have a process
each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import orjson
import psutil  # type: ignore[import-untyped]

from .measure import HEAD, child, machine, row

BETA = "OpenAI-Beta: assistants=v2\r\n"
LISTENS = r"(http://[^\s,]+)"


@dataclass(frozen=True)
class Reply:
    first: float
    """Seconds to the first text."""
    whole: float


async def ask(url: str, body: object, *, text: bytes, headers: str = "") -> Reply:
    """One streamed POST on a connection of its own, read without parsing it."""
    place = urlsplit(url)
    content = orjson.dumps(body)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    writer.write(
        f"POST {place.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"{headers}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    began = time.perf_counter()
    first, tail = None, b""
    try:
        while data := await reader.read(65536):
            tail = tail[-200:] + data
            if first is None and text in tail:
                first = time.perf_counter() - began
    finally:
        writer.close()
    if first is None or b"[DONE]" not in tail:
        raise RuntimeError(f"not a whole reply: {tail[-200:]!r}")
    return Reply(first, time.perf_counter() - began)


async def direct(url: str) -> Reply:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Go"}], "stream": True}
    return await ask(f"{url}/chat/completions", body, text=b'"content":"word')


async def through(url: str, assistant_id: str) -> Reply:
    message = {"role": "user", "content": "Go"}
    body = {"assistant_id": assistant_id, "thread": {"messages": [message]}, "stream": True}
    return await ask(f"{url}/threads/runs", body, text=b"thread.message.delta", headers=BETA)


async def at_once(count: int, one: Callable[[], Awaitable[Reply]]) -> list[Reply]:
    return await asyncio.gather(*(one() for _ in range(count)))


async def new_assistant(url: str) -> str:
    async with httpx2.AsyncClient(headers={"OpenAI-Beta": "assistants=v2"}) as http:
        made = await http.post(f"{url}/assistants", json={"model": "gpt-4o"})
        identity: str = made.raise_for_status().json()["id"]
        return identity


async def weigh(url: str, assistant_id: str, streams: int, pid: int) -> float:
    """Kilobytes that one more open stream takes, while its run is under way."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    open_streams = asyncio.ensure_future(at_once(streams, partial(through, url, assistant_id)))
    await asyncio.sleep(0.7)  # replies take a second
    during = process.memory_info().rss
    await open_streams
    return float(during - before) / streams / 1024


async def measure(runs: list[int], rounds: int, folder: Path) -> None:
    paced = ("-m", "benchmarks.scripted_model", "--words", "50", "--pace", "20")
    async with child(*paced, says=r"(http://\S+)") as model:
        environment = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
        serve = ("-m", "assistants_server", "serve", "--port", "0", "--data", str(folder))
        for attempt in ("on an empty folder", "on a used one"):
            began = time.perf_counter()
            async with child(*serve, says=LISTENS, environment=environment):
                print(f"Started in {(time.perf_counter() - began) * 1000:.0f} ms {attempt}.")
        async with child(*serve, says=LISTENS, environment=environment) as url:
            assistant_id = await new_assistant(url)
            kinds: dict[str, Callable[[], Awaitable[Reply]]] = {
                "model alone": partial(direct, model),
                "server": partial(through, url, assistant_id),
            }
            for one in kinds.values():  # connections, and what is imported on first use
                await at_once(max(runs), one)
            print(f"\n{HEAD}")
            for count in runs:
                taken: dict[str, list[Reply]] = {name: [] for name in kinds}
                order = list(kinds)
                for _ in range(rounds):
                    for name in order:
                        taken[name] += await at_once(count, kinds[name])
                    order.reverse()
                for name, replies in taken.items():
                    print(
                        row(f"{count} at once, first text, {name}", [one.first for one in replies])
                    )
                    print(row(f"{count} at once, reply, {name}", [one.whole for one in replies]))
            weight = await weigh(url, assistant_id, max(runs), server_of(url))
            print(f"\nAn open stream takes {weight:.0f} KB ({max(runs)} open).", flush=True)


def server_of(url: str) -> int:
    """The process that listens there; it is a child of ours."""
    port = urlsplit(url).port
    for process in psutil.Process(os.getpid()).children(recursive=True):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                identity: int = process.pid
                return identity
    raise RuntimeError(f"nobody listens on {url}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Many runs at once.")
    parser.add_argument("--runs", default="1,10,50,200", help="how many at once")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    runs = [int(count) for count in given.runs.split(",")]
    print(f"Runs at once, {given.rounds} rounds; {machine()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(runs, given.rounds, Path(folder)))


if __name__ == "__main__":
    main()
