"""Modules are nouns of one idea each."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A name that fits anything finds nothing.
NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "base", "misc", "core"}

LINES = 400
TEST_LINES = 600  # a list of promises reads faster than code
# Longer than that for now. Shorten the file, then this list; never the other way round.
LONGER: dict[str, int] = {}


def sources() -> list[Path]:
    """What is in the repository, or would be if it were added now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [path for name in listed if (path := ROOT / name).exists()]


def test_no_module_is_a_grab_bag() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sources()
        if {path.stem.lstrip("_"), path.parent.name} & NAMES
    ]
    assert found == []


def test_modules_are_short_enough_to_read() -> None:
    counts = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources()
        if "migrations/versions" not in str(path)
    }
    longer = {
        name: count
        for name, count in counts.items()
        if count > (TEST_LINES if name.startswith("tests/") else LINES)
    }
    assert longer.keys() <= LONGER.keys(), f"split these by noun: {longer}"
    grown = {name: count for name, count in longer.items() if count > LONGER[name]}
    assert grown == {}, "the exceptions only shrink"
    assert LONGER.keys() == longer.keys(), "take what has become short off the list"


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.name != "conftest.py"
        and len((text := path.read_text()).splitlines()) > 10
        and ast.get_docstring(ast.parse(text)) is None
    ]
    assert silent == []
