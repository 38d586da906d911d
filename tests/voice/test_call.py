"""A call without trouble, and the instruments themselves."""

from __future__ import annotations

from tests.plugin.agents import RUN, model_saw
from tests.upstream import Upstream, say
from tests.voice.call import Line


async def test_two_turns_are_two_requests(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Good ", "morning."), say("The sun is shining."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("hello there")
            await call.hears("Good morning.")
            await call.settled()
            await call.speaks("how is the weather")
            await call.hears("shining.")
            await call.settled()
        assert requests == [RUN, RUN]
        assert call.history == [
            ("user", "hello there"),
            ("assistant", "Good morning."),
            ("user", "how is the weather"),
            ("assistant", "The sun is shining."),
        ]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()
