"""Samples, tables and child processes for the benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path


def percentile(samples: Sequence[float], part: float) -> float:
    """The value that ``part`` (0 to 1) of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def row(name: str, samples: Sequence[float]) -> str:
    """One line of the table, in milliseconds."""
    figures = [percentile(samples, part) * 1000 for part in (0.5, 0.95, 0.25, 0.75)]
    median, late, low, high = (f"{figure:.2f}" for figure in figures)
    return f"| {name} | {len(samples)} | {median} | {late} | {low} to {high} |"


HEAD = "| | samples | p50 ms | p95 ms | middle half, ms |\n|---|---|---|---|---|"


def machine() -> str:
    """When and where, in one line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        model = found[1] if found else model
    day = datetime.now(timezone.utc).strftime("%d %b %Y")
    return f"{day}, {os.cpu_count()} cores ({model}), Python {platform.python_version()}"


@contextlib.asynccontextmanager
async def child(
    *words: str, says: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """A Python process; gives what the pattern ``says`` finds in its first line of output."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdout is not None
        try:
            line = (await process.stdout.readline()).decode()
            found = re.search(says, line)
            if found is None:
                log.seek(0)
                raise RuntimeError(f"{words} said {line!r}\n{log.read().decode()}")
            yield found[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()
