"""Random conversations over the real server: whatever happened, the thread is what was said.

``HYPOTHESIS_PROFILE=nightly`` looks for longer; a failure shrinks to the moves that it needs.
``SCRIPT='[Turn(), Restart()]'`` plays one, with the settings ``INTERRUPTED`` and ``DELETE_FILES``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.plugin import moves as all_moves
from tests.plugin.host import Host
from tests.plugin.moves import Move, moves, script
from tests.plugin.performance import Performance
from tests.upstream import Upstream

from livekit.plugins.assistants.options import DeleteFiles, Interrupted

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SESSIONS = int(os.environ.get("SESSIONS", "2000" if NIGHTLY else "80"))


@pytest.fixture
async def host(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Host]:
    async with Host(tmp_path / "data", upstream) as running:
        yield running


async def play(stage: Performance, listed: list[Move]) -> None:
    async with stage.opened():
        for move in listed:
            await stage.play(move)
        await stage.settle()
        await stage.sync()
        assert await stage.runs_are_over()


@pytest.mark.timeout(7200)
@settings(
    max_examples=SESSIONS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    interrupted=st.sampled_from(["heard", "full"]),
    delete_files=st.sampled_from(["never", "with_message"]),
    listed=st.lists(moves, max_size=8),
)
async def test_the_thread_is_what_was_said(
    host: Host,
    upstream: Upstream,
    extensions: bool | None,
    interrupted: Interrupted,
    delete_files: DeleteFiles,
    listed: list[Move],
) -> None:
    note("\n" + script(listed))
    await play(Performance(host, upstream, extensions, interrupted, delete_files), listed)


@pytest.mark.skipif("SCRIPT" not in os.environ, reason="plays the moves in SCRIPT")
async def test_a_script(host: Host, upstream: Upstream, extensions: bool | None) -> None:
    listed = eval(os.environ["SCRIPT"], vars(all_moves))
    interrupted: Any = os.environ.get("INTERRUPTED", "heard")
    delete_files: Any = os.environ.get("DELETE_FILES", "never")
    await play(Performance(host, upstream, extensions, interrupted, delete_files), listed)
