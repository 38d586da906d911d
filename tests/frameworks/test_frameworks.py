"""Frameworks that still ship the client of the Assistants API run when told another address.

They take a minute or two together, so they play when this folder is asked for by name, as
``make frameworks`` does once it has built their environments. Whatever does not play says why.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.frameworks import conversation
from tests.frameworks.conversation import FRAMEWORKS, STREAMED, TURNS, Framework
from tests.live_server import LiveServer, live_server
from tests.upstream import Request, Upstream

GUIDE = conversation.ROOT / "docs/guides/migrate.md"
SHOWN = re.compile(r"^<!-- (tests/frameworks/\S+) -->\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8400/v1"


def seen(request: Request) -> list[tuple[str, str | None]]:
    """Role and text of what the model was shown, without the instructions."""
    messages = [(message["role"], message.get("content")) for message in request.messages]
    assert messages[0][0] == "system"
    return messages[1:]


async def kept(server: LiveServer, thread_id: str) -> list[tuple[str, str]]:
    async with server.http() as http:
        path = f"/v1/threads/{thread_id}/messages"
        messages = (await http.get(path, params={"order": "asc", "limit": 100})).json()["data"]
    return [(message["role"], message["content"][0]["text"]["value"]) for message in messages]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
async def test_a_conversation_with_a_tool_runs_unchanged(
    framework: Framework, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    if not any("frameworks" in argument for argument in pytestconfig.args):
        pytest.skip("frameworks play when they are asked for: make frameworks")
    if framework.missing is not None:
        pytest.skip(framework.missing)
    async with Upstream() as model:
        model.script(*conversation.script(framework.tool))
        async with live_server(
            data=tmp_path / "data", upstream_url=model.base_url, upstream_key="test"
        ) as server:
            told = await framework.play(server.base_url, tmp_path)
            thread = await kept(server, told["thread"])
    assert told["replies"] == [turn.reply for turn in TURNS]
    assert told["called"] == ["Lisbon", "Porto"], "each call is answered once"
    assert thread == conversation.kept_in_the_thread(), "once each, in order"
    assert seen(model.requests[-1]) == conversation.seen_by_the_model()
    if framework.streams:
        pieces = [list(turn.pieces) for turn in STREAMED]
        assert told["streamed"] == pieces[: len(told["streamed"])], "as the model spoke"
        assert told["streamed"]


def test_a_framework_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    absent = Framework("nothing", tmp_path / "with_nothing.py", tmp_path)
    assert absent.missing == "nothing is not built: run make frameworks"


def test_every_program_is_played() -> None:
    programs = set((conversation.HERE / "programs").glob("with_*"))
    assert programs == {framework.program for framework in FRAMEWORKS}


def without_spaces(text: str) -> str:
    return "".join(text.split())


def test_the_guide_shows_lines_of_the_programs() -> None:
    shown = SHOWN.findall(GUIDE.read_text())
    assert {name for name, _ in shown} == {
        str(framework.program.relative_to(conversation.ROOT)) for framework in FRAMEWORKS
    }
    for name, fence in shown:
        program = without_spaces((conversation.ROOT / name).read_text())
        for paragraph in fence.replace(f'"{ADDRESS}"', "BASE_URL").split("\n\n"):
            assert without_spaces(paragraph) in program, f"{name} has no such lines:\n{paragraph}"


def test_the_guide_names_the_versions_that_were_tried() -> None:
    locked = "".join(
        file.read_text() for file in (conversation.HERE / "environments").rglob("*.*")
    ).replace('": "', "==")
    rows = re.findall(r"^\| \[[^|]*\| ([^|]*) \|", GUIDE.read_text(), re.MULTILINE)
    tried = [one.rpartition(" ") for row in rows for one in row.split(", ")]
    assert len(tried) == 9
    for name, _, version in tried:
        assert f"{name}=={version}" in locked, f"{name} {version} is not what is locked"
