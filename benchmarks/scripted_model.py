"""A Chat Completions endpoint that answers at once, in a process of its own.

It prints its address and runs until it is told to stop.
"""

from __future__ import annotations

import asyncio
import signal

from tests.upstream import Answer, Json, Upstream, say

WORDS = 20


def answer(body: Json) -> Answer:
    return say(*(f"word{number} " for number in range(WORDS)))


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Upstream(default=answer) as upstream:
        print(upstream.base_url, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
