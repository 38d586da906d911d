"""The server inside the process answers the official SDK as one behind a socket would."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.beta.threads import Run
from starlette.applications import Starlette
from tests.upstream import Upstream, say, stall

from assistants_server.domain.run_state import ACTIVE
from assistants_server.embedded import EmbeddedServer, Lifespan, StartupError, acquire, release
from assistants_server.settings import Settings
from assistants_server.store import keys
from assistants_server.store.database import Database

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path / "data", upstream_url=upstream.base_url, upstream_key="key", drain=0
    )


async def new_thread(client: openai.AsyncOpenAI, text: str) -> dict[str, Any]:
    assistant = await client.beta.assistants.create(model="gpt-4o")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": text}])
    return {"thread_id": thread.id, "assistant_id": assistant.id}


async def test_text_arrives_while_the_model_is_still_writing(
    upstream: Upstream, settings: Settings
) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    async with EmbeddedServer(settings) as server, server.client() as client:
        run = await new_thread(client, "Hi")
        async with client.beta.threads.runs.stream(**run) as stream:
            texts = stream.text_deltas
            assert await anext(texts) == "Hel"
            await hold.reached.wait()  # the model has not written the rest yet
            hold.release()
            assert await anext(texts) == "lo"
            assert (await stream.get_final_run()).status == "completed"


async def test_closing_the_stream_reaches_the_model(upstream: Upstream, settings: Settings) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    async with EmbeddedServer(settings) as server, server.client() as client:
        run = await new_thread(client, "Hi")
        stream = await client.beta.threads.runs.create(
            **run, stream=True, extra_body={"on_disconnect": "cancel"}
        )
        run_id = ""
        async for event in stream:
            if event.event == "thread.run.created":
                run_id = event.data.id
            if event.event == "thread.message.delta":
                break
        await stream.close()
        await upstream.disconnected()
        upstream.script(say("Anew"))
        again = await client.beta.threads.runs.create_and_poll(**run, poll_interval_ms=1)
        assert again.status == "completed", "the thread is free again"
        ended = await client.beta.threads.runs.retrieve(run_id, thread_id=run["thread_id"])
        assert ended.status == "cancelled"


async def test_the_first_request_starts_the_server(settings: Settings) -> None:
    server = EmbeddedServer(settings)
    async with server.client() as client:
        threads = await asyncio.gather(*(client.beta.threads.create() for _ in range(5)))
    await server.aclose()
    assert len({thread.id for thread in threads}) == 5


async def test_what_was_stored_is_there_for_the_next_server(settings: Settings) -> None:
    async with EmbeddedServer(settings) as server, server.client() as client:
        thread = await client.beta.threads.create(metadata={"caller": "Ana"})
    async with EmbeddedServer(settings) as server, server.client() as client:
        found = await client.beta.threads.retrieve(thread.id)
    assert found.metadata == {"caller": "Ana"}


async def test_two_servers_share_one_data_folder(settings: Settings) -> None:
    async with (
        EmbeddedServer(settings) as one,
        EmbeddedServer(settings) as other,
        one.client() as here,
        other.client() as there,
    ):
        thread = await here.beta.threads.create()
        await there.beta.threads.retrieve(thread.id)


AGENT = """
import asyncio, sys
from pathlib import Path
from assistants_server.embedded import EmbeddedServer
from assistants_server.settings import Settings

async def main(data, upstream, thread_id, assistant_id):
    settings = Settings(data=Path(data), upstream_url=upstream, upstream_key="key", lease=0.5)
    async with EmbeddedServer(settings) as server, server.client() as client:
        run = {"thread_id": thread_id, "assistant_id": assistant_id}
        while True:
            async for event in await client.beta.threads.runs.create(**run, stream=True):
                if event.event == "thread.run.created":
                    print(event.data.id, flush=True)
                if event.event in ("thread.message.delta", "thread.run.cancelled"):
                    print(event.event, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def another_agent(
    settings: Settings, run: dict[str, Any]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Callable[[], Awaitable[str]]]]:
    """A process of its own with an embedded server, which asks for one reply after the other; and
    what reads the next of the lines that it tells them by."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", AGENT),
        *(str(settings.data), str(settings.upstream_url)),
        *(run["thread_id"], run["assistant_id"]),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = process.stdout

    async def line() -> str:
        return (await lines.readline()).decode().strip()

    try:
        yield process, line
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_agent_processes_share_a_data_folder_and_survive_each_other(
    upstream: Upstream, settings: Settings
) -> None:
    settings = settings.model_copy(update={"lease": 0.5})
    holds = [stall(), stall()]
    upstream.script(*(say("Hel", hold, "lo") for hold in holds), say("Here I am"))
    async with EmbeddedServer(settings) as server, server.client() as client:
        run = await new_thread(client, "Hi")
        runs = client.beta.threads.runs

        async def ended(run_id: str) -> Run:
            while (now := await runs.retrieve(run_id, thread_id=run["thread_id"])).status in ACTIVE:
                await asyncio.sleep(0.02)
            return now

        async with another_agent(settings, run) as (process, line):
            first = await line()
            assert await line() == "thread.message.delta"
            with pytest.raises(openai.BadRequestError, match=f"already has an active run {first}"):
                await runs.create(**run)
            await runs.cancel(first, thread_id=run["thread_id"])
            assert await line() == "thread.run.cancelled"
            assert (await ended(first)).status == "cancelled"
            await upstream.disconnected()

            second = await line()
            assert await line() == "thread.message.delta"
            process.kill()
            failed = await ended(second)
            assert failed.last_error is not None
            assert "stopped before the run was done" in failed.last_error.message
        again = await runs.create_and_poll(**run, poll_interval_ms=1)
        assert again.status == "completed", "the thread is free"
        listed = await client.beta.threads.messages.list(run["thread_id"], order="asc")
        assert [
            (message.status, block.text.value)
            for message in listed.data
            for block in message.content
            if block.type == "text"
        ] == [
            ("completed", "Hi"),
            ("incomplete", "Hel"),
            ("incomplete", "Hel"),
            ("completed", "Here I am"),
        ]
        for hold in holds:
            hold.release()


async def test_keys_of_a_server_on_the_same_data_do_not_lock_it_out(settings: Settings) -> None:
    async with EmbeddedServer(settings) as server, server.client() as client:
        thread = await client.beta.threads.create()
        database = await Database.open(settings.database)
        await database.write(keys.create, "default", "telephone", now=0)
        await database.close()
    async with EmbeddedServer(settings) as server, server.client() as client:
        assert (await client.beta.threads.retrieve(thread.id)).id == thread.id


async def test_a_start_that_fails_is_a_sentence_and_may_be_tried_again(
    settings: Settings,
) -> None:
    settings.data.write_text("a file where the folder should be")
    server = EmbeddedServer(settings)
    with pytest.raises(StartupError) as raised:
        await server.start()
    assert str(settings.data) in str(raised.value)
    async with server.client() as client:
        with pytest.raises(openai.APIConnectionError) as refused:
            await client.beta.threads.create()
        cause = refused.value.__cause__
        assert cause is not None
        assert str(cause) == str(raised.value)

        settings.data.unlink()
        assert (await client.beta.threads.create()).id
    await server.aclose()


def test_a_setting_that_cannot_be_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANTS_MODELS", "gpt-4o")
    with pytest.raises(StartupError) as raised:
        EmbeddedServer()
    assert str(raised.value) == "ASSISTANTS_MODELS: its value is not JSON."


async def test_a_closed_server_refuses(settings: Settings) -> None:
    server = EmbeddedServer(settings)
    await server.start()
    await asyncio.gather(server.aclose(), server.aclose())
    async with server.client() as client:
        with pytest.raises(openai.APIConnectionError) as refused:
            await client.beta.threads.create()
    assert "closed" in str(refused.value.__cause__)


async def test_closing_ends_streams_that_nobody_closed(
    upstream: Upstream, settings: Settings
) -> None:
    upstream.script(say("Hel", stall(), "lo"))
    server = EmbeddedServer(settings)
    client = server.client()
    run = await new_thread(client, "Hi")
    stream = await client.beta.threads.runs.create(**run, stream=True)
    assert (await anext(aiter(stream))).event == "thread.run.created"
    await upstream.arrived(1)
    await server.aclose()
    await client.close()


async def test_a_server_belongs_to_one_event_loop(settings: Settings) -> None:
    async with EmbeddedServer(settings) as server:
        with pytest.raises(StartupError, match="event loop"):
            await asyncio.to_thread(asyncio.run, server.start())


async def test_a_cancelled_waiter_does_not_break_the_start(settings: Settings) -> None:
    server = EmbeddedServer(settings)
    waiter = asyncio.ensure_future(server.start())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await server.start()
    await server.aclose()


async def test_equal_settings_share_a_server(settings: Settings) -> None:
    one = acquire(settings)
    other = acquire(settings.model_copy())
    assert one is other
    await release(one)
    await one.start()  # still held
    await release(other)
    with pytest.raises(StartupError, match="closed"):
        await one.start()
    fresh = acquire(settings)
    assert fresh is not one
    await release(fresh)


async def test_another_key_is_another_server(settings: Settings) -> None:
    one = acquire(settings)
    other = acquire(settings.model_copy(update={"upstream_key": "another"}))
    assert one is not other
    await release(one)
    await release(other)


async def test_releasing_twice_is_an_error(settings: Settings) -> None:
    server = acquire(settings)
    await release(server)
    with pytest.raises(ValueError, match="released already"):
        await release(server)


async def test_a_lifespan_raises_what_the_app_raised() -> None:
    async def fails(app: Starlette) -> AsyncIterator[None]:
        raise OSError("no space")
        yield

    with pytest.raises(OSError, match="no space"):
        await Lifespan(Starlette(lifespan=contextlib.asynccontextmanager(fails))).start()


async def test_a_lifespan_shares_its_state_and_ends() -> None:
    ended = asyncio.Event()

    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"answer": 42}
        ended.set()

    runner = Lifespan(Starlette(lifespan=contextlib.asynccontextmanager(lifespan)))
    await runner.start()
    assert runner.state == {"answer": 42}
    assert not ended.is_set()
    await runner.stop()
    assert ended.is_set()
