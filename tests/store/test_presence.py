"""A process that is gone is known to be gone, and nobody else is."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from assistants_server.store.presence import Presence

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")

HOLD = """
import sys
from pathlib import Path
from assistants_server.store.presence import Presence
Presence(Path(sys.argv[1])).enter("other")
print("in", flush=True)
sys.stdin.read()
"""


async def test_a_killed_process_is_gone_at_once(tmp_path: Path) -> None:
    here = Presence(tmp_path / "workers")
    here.enter("me")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD, str(tmp_path / "workers")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"in\n"
    assert not here.has_gone("other")
    process.kill()
    await process.communicate()
    assert here.has_gone("other")
    assert here.has_gone("other"), "a second look says the same"
    here.close()


def test_the_living_and_the_unknown_are_not_gone(tmp_path: Path) -> None:
    one, two = Presence(tmp_path), Presence(tmp_path)
    one.enter("one")
    two.enter("two")
    assert not one.has_gone("two")
    assert not two.has_gone("one")
    assert not one.has_gone("one")
    assert not one.has_gone("nobody")
    one.close()
    assert not two.has_gone("one"), "it left in order and holds nothing"
    two.close()
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "long_dead").touch()
    here = Presence(tmp_path)
    here.enter("me")
    assert [path.name for path in tmp_path.iterdir()] == ["me"]
    here.close()


def test_without_a_folder_nobody_is_known_to_be_gone(tmp_path: Path) -> None:
    nowhere = Presence(None)
    nowhere.enter("me")
    assert not nowhere.has_gone("me")
    nowhere.close()
