"""A model in a process of its own that does what the last user message says, faults included.

A message reads ``marker play kind words pace``: so many words, so many milliseconds apart, and
then the kind's end. What the model does is thus part of the load and comes from its seed.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable

from tests.upstream import Answer, Json, Upstream, call, cut, fail, garbage, say

KINDS = ("talk", "talk", "talk", "talk", "slow", "late", "tool", "cut", "garbage", "fail", "hang")
_WISH = re.compile(r"(\S+) play (\w+) (\d+) (\d+)")


def answer(body: Json) -> Answer:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return say("Thanks, ", "that is it.")
    found = None
    for message in reversed(body["messages"]):
        content = message.get("content")
        text = content if isinstance(content, str) else str(content)
        if message["role"] == "user" and (found := _WISH.search(text)):
            break
    if found is None:
        return say("What was that?")
    marker, kind, words, pace = found[1], found[2], int(found[3]), int(found[4])
    if kind == "fail":
        return fail(500 if words % 2 else 429, headers={"Retry-After": "0"})
    parts: list[str | Callable[[], Awaitable[None]]] = []
    for number in range(words):
        parts.append(f"{marker}-{number} ")
        parts.append(_pause(pace / 1000))
    if kind == "tool":
        return say(*parts[:4]) + call("look_up", {"marker": marker})
    if kind == "cut":
        return cut(*parts)
    if kind == "garbage":
        return say(*parts) + garbage()
    if kind == "hang":
        return say(*parts, _pause(3600))
    if kind == "slow":
        return say(*parts[: words // 2], _pause(2.5), *parts[words // 2 :])
    if kind == "late":
        return say(_pause(1.5), *parts)
    return say(*parts)


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    async def pause() -> None:
        await asyncio.sleep(seconds)

    return pause


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def forgetful(body: Json) -> Answer:
        upstream.requests.clear()
        return answer(body)

    async with Upstream(default=forgetful) as upstream:
        print(upstream.base_url, flush=True)  # noqa: T201 - whoever started us reads it
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
