"""The programs in the documentation run. ``<!-- runs -->`` before a fence asks for it."""

from __future__ import annotations

import ast
import asyncio
import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live_server import live_server
from tests.rules.test_docs import PAGES, ROOT
from tests.upstream import Upstream, echo

MARKED = re.compile(r"^<!-- runs -->\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8400/v1"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def programs() -> Iterator[object]:
    for page in PAGES:
        for number, text in enumerate(MARKED.findall(page.read_text()), 1):
            yield pytest.param(text, id=f"{page.relative_to(ROOT)}#{number}")


def run(text: str) -> None:
    """As a module, which may use ``await`` at its top as the interactive ``python -m asyncio``."""
    code = compile(text, "<fence>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = types.FunctionType(code, {"__name__": "fence"})()
    if waiting is not None:
        asyncio.run(waiting)


@pytest.mark.parametrize("text", list(programs()))
async def test_the_program_runs(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Upstream(default=echo) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("ASSISTANTS_MODELS", '{"*": "gpt-4o"}')
        async with live_server(data=tmp_path / "live", upstream_url=model.base_url) as server:
            await asyncio.to_thread(run, text.replace(ADDRESS, server.base_url))
        if "print(" in text:
            assert model.requests, "it asked the model nothing"
            assert capsys.readouterr().out.strip()
