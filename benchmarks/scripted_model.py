"""A Chat Completions endpoint that answers at once, or at a pace, in a process of its own.

It prints its address and runs until it is told to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from tests.upstream import Answer, Json, Upstream, say

WORDS = 20
SLOWLY = "slowly"
"""Asked so, it takes its time whatever its pace."""


def answer(words: int, pace: float) -> Answer:
    async def pause() -> None:
        await asyncio.sleep(pace)

    if not pace:
        return say(*(f"word{number} " for number in range(words)))
    parts = [part for number in range(words) for part in (f"word{number} ", pause)]
    return say(*parts[:-1])


async def main(words: int, pace: float) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def forgetful(body: Json) -> Answer:
        upstream.requests.clear()
        asked = str(body["messages"][-1].get("content"))
        return answer(words, max(pace, 0.02) if SLOWLY in asked else pace)

    async with Upstream(default=forgetful) as upstream:
        print(upstream.base_url, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A model that says what it always says.")
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--pace", type=float, default=0, help="milliseconds between words")
    given = parser.parse_args()
    asyncio.run(main(given.words, given.pace / 1000))
