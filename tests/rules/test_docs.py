"""What the documentation says exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import settings_reference

from assistants_server.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "packages").glob("*/README.md")),
]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def fences(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for found, text in FENCE.findall(page.read_text()):
            if found == language:
                yield page, text


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_reference.PAGE.read_text() == settings_reference.page(), (
        "run: python scripts/settings_reference.py"
    )


def test_every_setting_has_a_meaning() -> None:
    fields = Settings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_python_in_the_documentation_compiles() -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for page, text in fences("python"):
        compile(text, str(page), "exec", flags=flags)


def test_make_commands_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        words[1]
        for _, text in fences("console")
        for line in text.splitlines()
        if line.startswith("$ ")  # the rest is output
        for part in line[2:].split("|")
        if (words := shlex.split(part, comments=True))[:1] == ["make"] and len(words) > 1
    }
    assert used, "the documentation shows no command"
    assert used <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target
        for target in LINK.findall(page.read_text())
        if "://" not in target
        and not target.startswith("#")
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_every_page_is_reachable_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [
            page.parent / target.partition("#")[0]
            for target in LINK.findall(page.read_text())
            if "://" not in target and not target.startswith("#")
        ]
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} <= reached
