"""A project's model names: what reaches the model, and what a client is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from tests.contract.sdk import DEPRECATED, conversation
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, echo

from assistants_server.engine.worker import SWEEP_SECONDS
from assistants_server.store import keys, model_names

pytestmark = DEPRECATED

RETIRED = "gpt-4-1106-preview"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(default=echo, models=["house"]) as model:
        yield model


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(
    tmp_path: Path, database_url: str, upstream: Upstream, clock: ManualClock
) -> AsyncIterator[LiveServer]:
    names = {RETIRED: "gpt-4o"}
    async with live_server(
        data=tmp_path,
        database_url=database_url,
        clock=clock,
        upstream_url=upstream.base_url,
        upstream_key="test",
        lease=1000,
        models=names,
    ) as running:
        yield running


async def test_a_running_server_follows_a_projects_map_and_its_clients_see_their_own_names(
    server: LiveServer, upstream: Upstream, clock: ManualClock
) -> None:
    write = server.state.database.write
    _, acme_key = await write(keys.create, "acme", "one", now=1)
    _, other_key = await write(keys.create, "other", "two", now=1)
    async with server.client(api_key=acme_key) as acme, server.client(api_key=other_key) as other:

        async def ask(client: openai.AsyncOpenAI) -> str:
            """The model that was asked for a run of the retired name."""
            assistant, thread = await conversation(client, model=RETIRED)
            runs = client.beta.threads.runs
            events = [
                event
                async for event in await runs.create(
                    thread_id=thread, assistant_id=assistant, stream=True
                )
            ]
            told = [event.data for event in events if event.event == "thread.run.completed"]
            assert [run.model for run in told] == [RETIRED]
            assert (await runs.list(thread)).data[0].model == RETIRED
            assert (await client.beta.assistants.retrieve(assistant)).model == RETIRED
            model: str = upstream.requests[-1].body["model"]
            return model

        async def listed(client: openai.AsyncOpenAI) -> list[str]:
            return [model.id async for model in client.models.list()]

        assert await ask(acme) == "gpt-4o"
        await write(model_names.add, "acme", {RETIRED: "house", "gpt-4": "house"})
        swept = server.state.model_names
        clock.advance(SWEEP_SECONDS)
        while swept.resolve("acme", RETIRED) != "house":
            await server.state.database.read(model_names.read)
        assert (await ask(acme), await ask(other)) == ("house", "gpt-4o")
        assert await listed(acme) == ["house", "gpt-4", RETIRED]
        assert await listed(other) == ["house", RETIRED]
        assert (await acme.models.retrieve("gpt-4")).id == "gpt-4"
        with pytest.raises(openai.NotFoundError):
            await other.models.retrieve("gpt-4")
