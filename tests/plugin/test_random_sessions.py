"""Random conversations over the real server: whatever happened, the thread is what was said."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.live_server import LiveServer
from tests.plugin.agents import said
from tests.plugin.moves import Handoff, Move, Stage, Window, moves, script, shown_to_the_model
from tests.upstream import Upstream

SESSIONS = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 60
OVER = {"completed", "cancelled", "failed", "expired", "incomplete"}


async def play(stage: Stage, listed: list[Move]) -> None:
    extensions, upstream = stage.extensions, stage.upstream
    await stage.open()
    try:
        for move in listed:
            await stage.play(move)
        await stage.settle()
        thread = await stage.caller.thread()
        if any(isinstance(move, Window | Handoff) for move in listed):
            # What no context shows (any more), and its order, is sync()'s business.
            assert not Counter(thread) - Counter(stage.committed())
        else:
            assert thread == stage.committed()
        if extensions is None and not stage.agent.window:
            assert shown_to_the_model(upstream) == [*stage.past, *said(stage.agent.chat_ctx)][:-1]
        await stage.sync()
        assert await stage.caller.thread() == stage.committed()
        assert [
            run["status"] for run in await stage.caller.runs() if run["status"] not in OVER
        ] == []
    finally:
        await stage.close()


@pytest.mark.timeout(3600)
@settings(
    max_examples=SESSIONS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(listed=st.lists(moves, max_size=8))
async def test_the_thread_is_what_was_said(
    server: LiveServer, upstream: Upstream, extensions: bool | None, listed: list[Move]
) -> None:
    note("\n" + script(listed))
    await play(Stage(server, upstream, extensions), listed)
