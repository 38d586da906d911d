"""A short look at what ``make chaos`` does at length: nothing that was promised is lost.

CHAOS_SEED=123 make test ARGS=tests/chaos
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.conductor import WORK_BETWEEN_FAULTS, perform

SEED = int(os.environ.get("CHAOS_SEED", "1"))

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the SDK, on every call
    pytest.mark.timeout(300),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own folder, which a second pytest closes to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix="chaos") as name:
        yield Path(name)


@pytest.mark.parametrize("setup", ["shared", "replicas"])
async def test_what_was_acknowledged_survives(
    setup: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))  # the PostgreSQL wheel asks for it
    report = await perform(setup, folder, seed=SEED, seconds=8, expiry=5)
    assert report.complaints == [], str(report)
    assert report.ledger.answers >= WORK_BETWEEN_FAULTS, str(report)
    assert report.ledger.runs, str(report)
