"""A program in a process of its own, as its users would start it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 90


async def printed(
    command: Sequence[str],
    *,
    given: str = "",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What the program wrote to its output, given this as its input.

    It sees no variable of this process but PATH. One that fails, or does not end, fails the test;
    what it says about that stands among the captured errors.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(given.encode()), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{' '.join(command)} stopped with {process.returncode}"
    return told.decode()
