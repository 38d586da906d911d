"""What holds for every test: a clean environment, no task left behind, reproducible examples.

Warnings are errors (``pyproject.toml``), so an unclosed socket, file or database fails the run.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

# ci: the same examples every time, so that what passed once passes again. dev: a quick look with
# new examples. nightly: a search.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100)
settings.register_profile("dev", deadline=None, max_examples=25)
settings.register_profile(
    "nightly", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SCRUBBED = ("OPENAI_", "ASSISTANTS_", "LIVEKIT_", "OTEL_", "MAKE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, proxy or data folder of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED) or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANTS_HOME", str(tmp_path / "assistants"))


@pytest.fixture(autouse=True)
def tasks_end_with_their_test(request: pytest.FixtureRequest) -> None:
    """An asyncio task that outlives its test and the test's fixtures fails it."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_task_left")


@pytest_asyncio.fixture
async def no_task_left() -> AsyncIterator[None]:
    yield
    left: list[asyncio.Task[object]] = []
    for _ in range(10):  # what was cancelled last still has to take notice
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if not left:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"tasks left behind: {left}")
