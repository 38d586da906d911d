"""Any request may reach any replica: what one does, the other knows at once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import Frame, frames, names, streaming
from tests.chaos.proxy import Proxy
from tests.live_server import BETA, LiveServer, live_server
from tests.upstream import Stall, Upstream, call, say, stall

from assistants_server.domain.run_state import ACTIVE

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

Pair = tuple[httpx2.AsyncClient, httpx2.AsyncClient]


@pytest.fixture
async def http(replicas: tuple[LiveServer, LiveServer]) -> AsyncIterator[Pair]:
    one, two = replicas
    async with one.http() as first, two.http() as second:
        yield first, second


@pytest.fixture
async def runs(http: Pair) -> str:
    """The path of a new thread's runs."""
    thread = await made(http[0], "/v1/threads", {"messages": [{"role": "user", "content": "Hi"}]})
    return f"/v1/threads/{thread['id']}/runs"


@pytest.fixture
async def body(http: Pair) -> Json:
    """What asks for a run."""
    assistant = await made(http[1], "/v1/assistants", {"model": "gpt-4o", "tools": [FUNCTION]})
    return {"assistant_id": assistant["id"]}


Anywhere = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
async def balanced(replicas: tuple[LiveServer, LiveServer]) -> AsyncIterator[Anywhere]:
    """Sends each request on a connection of its own through a plain TCP proxy to both."""
    ports = [httpx2.URL(replica.origin).port or 0 for replica in replicas]
    async with Proxy(ports) as proxy:
        origin = f"http://127.0.0.1:{proxy.port}"

        async def send(method: str, path: str, body: Json | None = None) -> httpx2.Response:
            async with httpx2.AsyncClient(base_url=origin, headers=BETA, timeout=30) as client:
                answer: httpx2.Response = await client.request(method, path, json=body)
                return answer

        yield send


async def all_of(anywhere: Anywhere, path: str) -> list[Json]:
    """A list, newest first."""
    listed: list[Json] = (await anywhere("GET", path + "?limit=100")).json()["data"]
    return listed


async def waiting_run(anywhere: Anywhere, runs: str, body: Json) -> Json:
    """A run that waits for outputs."""
    run: Json = (await anywhere("POST", runs, body)).json()
    while run["status"] != "requires_action":
        run = (await anywhere("GET", f"{runs}/{run['id']}")).json()
    return run


class Speaking:
    """A streamed run that a replica is executing, held in mid-sentence."""

    def __init__(self, run: Json, hold: Stall, rest: AsyncIterator[Frame]) -> None:
        self.run = run
        self.hold = hold
        self._rest = rest

    async def rest(self) -> list[Frame]:
        """All that its stream still tells."""
        return [frame async for frame in self._rest]


@asynccontextmanager
async def speaking(
    http: httpx2.AsyncClient, upstream: Upstream, runs: str, body: Json, **wishes: Any
) -> AsyncIterator[Speaking]:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    async with streaming(http, runs, {**body, **wishes}) as response:
        told = frames(response)
        run: Json = {}
        async for name, data in told:
            if name == "thread.run.created":
                run = data
            if name == "thread.message.delta":
                break
        await hold.reached.wait()
        yield Speaking(run, hold, told)
        hold.release()


async def test_of_runs_that_race_for_a_thread_one_begins(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(hold)
    racing = [http[number % 2].post(runs, json=body) for number in range(20)]
    answers = await asyncio.gather(*racing)
    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    for answer in answers:
        if answer.status_code != 200:
            assert refusal(answer)[1].endswith(f"already has an active run {won[0]['id']}.")
    hold.release()


async def test_of_requests_with_one_name_one_begins(http: Pair, runs: str, body: Json) -> None:
    named = {**body, "run_key": "turn-1", "if_active": "supersede"}
    racing = [http[number % 2].post(runs, json=named) for number in range(10)]
    answers = await asyncio.gather(*racing)
    assert [answer.status_code for answer in answers].count(200) == 1
    codes = {refusal(answer)[3] for answer in answers if answer.status_code != 200}
    assert codes == {"run_key_exists"}


async def test_of_outputs_that_race_one_answers_the_call(
    balanced: Anywhere, runs: str, body: Json, upstream: Upstream
) -> None:
    upstream.script(call("f", id="call_a"), say("Thanks"))
    run = await waiting_run(balanced, runs, body)
    path = f"{runs}/{run['id']}/submit_tool_outputs"
    racing = [
        balanced("POST", path, {"tool_outputs": [{"tool_call_id": "call_a", "output": str(one)}]})
        for one in range(10)
    ]
    answers = await asyncio.gather(*racing)
    (won,) = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    for answer in answers[:won] + answers[won + 1 :]:
        assert refusal(answer)[1].endswith("do not accept tool outputs.")
    await upstream.arrived(2)
    assert upstream.requests[1].body["messages"][-1]["content"] == str(won)


async def test_of_cancels_that_race_one_is_told_that_it_cancels(
    balanced: Anywhere, runs: str, body: Json, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(hold)
    run = (await balanced("POST", runs, body)).json()
    await hold.reached.wait()
    racing = [balanced("POST", f"{runs}/{run['id']}/cancel") for _ in range(10)]
    answers = await asyncio.gather(*racing)
    assert [answer.status_code for answer in answers].count(200) == 1
    for answer in answers:
        if answer.status_code != 200:
            assert refusal(answer)[1].startswith("Cannot cancel run with status 'cancel")
    await upstream.disconnected()


async def test_of_requests_that_supersede_each_other_the_last_to_be_stored_is_answered(
    balanced: Anywhere, runs: str, body: Json
) -> None:
    asking = {**body, "if_active": "supersede"}
    answers = await asyncio.gather(*(balanced("POST", runs, asking) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    listed = await all_of(balanced, runs)
    while any(one["status"] in ACTIVE for one in listed):
        listed = await all_of(balanced, runs)
    assert listed[0]["status"] == "completed"
    assert {one["status"] for one in listed} <= {"completed", "cancelled"}
    assert {one["id"] for one in listed} == {answer.json()["id"] for answer in answers}
    replies = [
        one
        for one in await all_of(balanced, runs.removesuffix("/runs") + "/messages")
        if one["status"] == "completed" and one["role"] == "assistant"
    ]
    told = {one["id"] for one in listed if one["status"] == "completed"}
    assert {one["run_id"] for one in replies} == told


async def test_of_requests_with_one_idempotency_key_one_is_carried_out(
    http: Pair, runs: str, body: Json
) -> None:
    path = runs.removesuffix("/runs") + "/messages"
    message = {"role": "user", "content": "once"}
    headers = {"Idempotency-Key": "one"}
    racing = [http[number % 2].post(path, json=message, headers=headers) for number in range(10)]
    answers = await asyncio.gather(*racing)
    assert {answer.json()["id"] for answer in answers if answer.status_code == 200}
    listed = (await http[0].get(path)).json()["data"]
    assert [one["content"][0]["text"]["value"] for one in listed] == ["once", "Hi"]


async def test_a_cancel_through_another_replica_takes_effect_at_once(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    async with speaking(http[0], upstream, runs, body) as reply:
        answer = await http[1].post(f"{runs}/{reply.run['id']}/cancel")
        assert answer.json()["status"] == "cancelling"
        assert names(await reply.rest())[-2:] == ["thread.run.cancelled", "done"]
        await upstream.disconnected()
    listed = (await http[1].get(runs.removesuffix("/runs") + "/messages")).json()["data"]
    assert (listed[0]["status"], listed[0]["content"][0]["text"]["value"]) == ("incomplete", "Hel")


async def test_outputs_may_be_given_to_another_replica(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    upstream.script(call("f", id="call_a"), say("Thanks"))
    async with streaming(http[0], runs, body) as response:
        waiting = [data async for name, data in frames(response) if name.endswith("action")]
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "1"}]}
    path = f"{runs}/{waiting[0]['id']}/submit_tool_outputs"
    async with streaming(http[1], path, outputs) as response:
        told = [frame async for frame in frames(response)]
    assert names(told)[-2:] == ["thread.run.completed", "done"]
    assert (await http[0].get(f"{runs}/{waiting[0]['id']}")).json()["status"] == "completed"


async def test_a_run_is_superseded_through_another_replica(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    async with speaking(http[0], upstream, runs, body) as reply:
        upstream.script(say("Instead"))
        async with streaming(http[1], runs, {**body, "if_active": "supersede"}) as response:
            told = [frame async for frame in frames(response)]
        assert names(told)[-2:] == ["thread.run.completed", "done"]
        assert names(await reply.rest())[-2:] == ["thread.run.cancelled", "done"]
        await upstream.disconnected()


async def test_a_run_is_ended_by_name_through_another_replica(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    async with speaking(http[0], upstream, runs, body, run_key="turn-1") as reply:
        ends = {**body, "end_runs": [{"run_key": "turn-1", "keep": []}]}
        async with streaming(http[1], runs, ends) as response:
            told = [frame async for frame in frames(response)]
        assert names(told)[-2:] == ["thread.run.completed", "done"]
        assert names(await reply.rest())[-2:] == ["thread.run.cancelled", "done"]
        await upstream.disconnected()
        late = await http[0].post(runs, json={**body, "run_key": "turn-1"})
        assert refusal(late)[3] == "run_ended"
    listed = (await http[0].get(runs.removesuffix("/runs") + "/messages")).json()["data"]
    assert [one["role"] for one in listed] == ["assistant", "user"], "the unheard reply is gone"


async def test_a_request_waits_for_a_run_of_another_replica(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    async with speaking(http[0], upstream, runs, body) as reply:
        upstream.script(say("Next"))
        waiting = asyncio.create_task(http[1].post(runs, json={**body, "if_active": "queue"}))
        reply.hold.release()
        assert names(await reply.rest())[-2:] == ["thread.run.completed", "done"]
        assert (await waiting).status_code == 200


async def test_a_thread_that_another_replica_deletes_ends_its_run(
    http: Pair, runs: str, body: Json, upstream: Upstream
) -> None:
    async with speaking(http[0], upstream, runs, body) as reply:
        assert (await http[1].delete(runs.removesuffix("/runs"))).json()["deleted"]
        assert names(await reply.rest())[-2:] == ["error", "done"]
        await upstream.disconnected()


async def test_runs_of_a_killed_replica_are_settled_by_another(
    tmp_path: Path, postgres_url: str, upstream: Upstream
) -> None:
    settings: dict[str, Any] = {
        "database_url": postgres_url,
        "upstream_url": upstream.base_url,
        "lease": "0.5",
    }
    environment = {f"ASSISTANTS_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "assistants_server", "serve", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "ASSISTANTS_UPSTREAM_KEY": "x"},
    )
    assert process.stdout is not None
    greeting = (await process.stdout.readline()).decode()
    doomed = greeting.partition(" listens on ")[2].partition("/v1")[0]
    async with AsyncExitStack() as stack:
        living = await stack.enter_async_context(
            live_server(data=tmp_path, upstream_key="x", **settings)
        )
        other = await stack.enter_async_context(living.http())
        beta = other.headers
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=doomed, headers=beta))
        assistant = await made(http, "/v1/assistants", {"model": "gpt-4o", "instructions": "Hi"})
        thread = await made(http, "/v1/threads", {})
        hold = stall()
        upstream.script(say("Hel", hold, "lo"))
        runs = f"/v1/threads/{thread['id']}/runs"
        run = await made(http, runs, {"assistant_id": assistant["id"]})
        messages = runs.removesuffix("/runs") + "/messages"
        while not (await other.get(messages)).json()["data"]:
            await asyncio.sleep(0.05)
        process.kill()
        await process.communicate()
        while (now := (await other.get(f"{runs}/{run['id']}")).json())["status"] == "in_progress":
            await asyncio.sleep(0.05)
        assert now["status"] == "failed"
        assert "stopped before the run was done" in now["last_error"]["message"]
        listed = (await other.get(messages)).json()["data"]
        assert [one["status"] for one in listed] == ["incomplete"]
        assert (await other.post(runs, json={"assistant_id": assistant["id"]})).status_code == 200
        hold.release()
