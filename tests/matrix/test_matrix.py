"""Every official SDK sees the same: one table of scenarios, played by each against the real server.

The Python SDK of this environment always plays. The others play where ``scripts/sdk-environments``
has built them (``make matrix``); one that is missing is a skip that says so.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.live_server import live_server
from tests.manual_clock import ManualClock
from tests.matrix import table
from tests.matrix.table import Client, ScriptedModel
from tests.programs import printed
from tests.upstream import Upstream

from assistants_server.store import keys

CLIENTS = {client.name: client for client in table.clients()}
NAMES = [scenario["name"] for scenario in table.scenarios()]

Transcripts = dict[str, list[Any]]


async def play(client: Client, data: Path) -> Transcripts:
    """All scenarios, as this client saw them."""
    clock = ManualClock()
    model = ScriptedModel(clock)
    async with (
        Upstream(default=model) as upstream,
        live_server(
            data=data, clock=clock, upstream_url=upstream.base_url, upstream_key="test"
        ) as server,
    ):
        _, key = await server.state.database.write(keys.create, "default", "matrix", now=1)
        command = [*client.command, server.base_url, *client.arguments]
        told = await printed(
            command, given=json.dumps(table.scenarios()), environment={"OPENAI_API_KEY": key}
        )
    assert model.left == {}, "the model was asked less often than the table says"
    transcripts: Transcripts = json.loads(told)["transcripts"]
    return transcripts


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Client, Transcripts]:
    """Each client plays once, whatever number of scenarios looks at what it saw."""
    client = CLIENTS[request.param]
    if client.missing is not None:
        pytest.skip(client.missing)
    return client, asyncio.run(play(client, tmp_path_factory.mktemp(client.name)))


@pytest.mark.parametrize("played", CLIENTS, indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_every_client_sees_what_the_table_says(
    played: tuple[Client, Transcripts], name: str
) -> None:
    client, transcripts = played
    (scenario,) = (one for one in table.scenarios() if one["name"] == name)
    seen = table.normalised(transcripts[name])
    for number, (step, record) in enumerate(zip(scenario["steps"], seen, strict=True)):
        assert record == table.expected(step, client), f"step {number}: {step['do']}"


def test_a_client_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    absent = Client("python-0", "python", ("python",), (tmp_path / "python",))
    assert absent.missing == "python-0 is not built: run scripts/sdk-environments"


def test_lock_files_name_no_registry() -> None:
    for file in (table.HERE / "environments").rglob("*"):
        text = file.read_text() if file.is_file() else ""
        assert '"resolved"' not in text, file
        assert "index-url" not in text, file
