"""Runs under any interleaving of what clients, processes, the model and time may do.

Each move is judged by what the tables allow for some status that the run had while the request
was under way, and after each move one transaction sees the whole database. SQLite; PostgreSQL too
when the search is long (``HYPOTHESIS_PROFILE=nightly``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.databases import postgres_server, postgres_url
from tests.interleavings.plans import PLANS, TOOLS, TurnPlan
from tests.interleavings.snapshots import Row, Snapshot, between
from tests.interleavings.waiting import Waiting
from tests.interleavings.world import EXPIRY, LEASE, STEP, Process, Stream, World

from assistants_server.domain.run_state import RUN_TRANSITIONS, TERMINAL, UPDATABLE

__all__ = ["postgres_server", "postgres_url"]

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 400 if NIGHTLY else 25
LENGTH = 60 if NIGHTLY else 40

PICK = st.integers(0, 1000)
"""Chooses among what there is at the time."""


def statuses(run_id: str, before: Snapshot, after: Snapshot) -> set[str]:
    """What the run may have been while a request was under way."""
    if run_id not in before.runs or run_id not in after.runs:
        return set()
    return between(before.runs[run_id]["status"], after.runs[run_id]["status"])


def allowing(cause: str) -> set[str]:
    """Every status in which the cause is allowed."""
    return {status for status, row in RUN_TRANSITIONS.items() if cause in row}


def refusal(answer: Any) -> str:
    message: str = answer["error"]["message"]
    return message


MOVES: list[st.SearchStrategy[tuple[str, dict[str, Any]]]] = []

Move = TypeVar("Move", bound=Callable[..., None])


def move(**values: st.SearchStrategy[Any]) -> Callable[[Move], Move]:
    """A method is a move, with these values. One that has nothing to move returns at once: which
    moves are drawn must not depend on how fast the server was."""

    def add(method: Move) -> Move:
        MOVES.append(st.tuples(st.just(method.__name__), st.fixed_dictionaries(values)))
        return method

    return add


class Interleavings:
    """A world, and what can be done to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.world.do(self.world.forget())
        self.now = self.world.do(self.world.judge())

    def play(self, moves: list[tuple[str, dict[str, Any]]]) -> None:
        for name, values in moves:
            getattr(self, name)(**values)
        self.world.do(self.world.settle())

    # What there is

    def process(self, pick: int) -> Process:
        return self.world.processes[pick % len(self.world.processes)]

    def thread(self, pick: int) -> str:
        threads = list(self.world.thread_ids)
        return threads[pick % len(threads)]

    def run(self, pick: int) -> Row:
        """Mostly the newest one."""
        runs = list(self.now.runs.values())
        return runs[-1 - (pick % (3 * len(runs)) if pick % 3 == 0 else 0) % len(runs)]

    def look(self, *, settled: bool = False) -> tuple[Snapshot, Snapshot]:
        """Judge the world; what it was before and is now."""
        before = self.now
        self.now = self.world.do(self.world.settle() if settled else self.world.judge())
        return before, self.now

    def ask(self, pick: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self.world.do(_ask(self.process(pick), method, path, body))

    def judge_lock(
        self, thread_id: str, status: int, answer: Any, text: str, snapshots: Any
    ) -> bool:
        """Whether the request got through; it must exactly where no run is active."""
        before, after = snapshots
        if any(one.thread_id == thread_id for one in self.world.waiting):
            # Whoever waits may have had its turn at any moment in between.
            assert status in (200, 400), answer
            assert status == 200 or "active" in refusal(answer), answer
            return bool(status == 200)
        held_before, held_after = before.active(thread_id), after.active(thread_id)
        if status == 200:
            kept = held_before and held_after and held_before["id"] == held_after["id"]
            assert not kept, f"{thread_id} was locked by {held_before}"
            return True
        assert status == 400, answer
        assert held_before is not None, f"{thread_id} was free: {answer}"
        assert refusal(answer) == text.format(thread=thread_id, run=held_before["id"])
        return False

    # Clients

    @move(pick=PICK)
    def create_a_thread(self, pick: int) -> None:
        if len(self.world.thread_ids) == 3:
            return
        body = {"messages": [{"role": "user", "content": "hello"}]}
        status, thread = self.ask(pick, "POST", "/v1/threads", body)
        assert status == 200, thread
        self.world.thread_ids.append(thread["id"])
        self.look()

    @move(
        pick=PICK,
        turns=PLANS,
        streams=st.booleans(),
        on_disconnect=st.sampled_from((None, "cancel", "continue")),
        if_active=st.sampled_from((None, None, "supersede")),
        settled=st.booleans(),
    )
    def create_a_run(
        self,
        pick: int,
        turns: list[TurnPlan],
        streams: bool,
        on_disconnect: str | None,
        if_active: str | None,
        settled: bool,
    ) -> None:
        if not self.world.thread_ids:
            return
        thread_id = self.thread(pick)
        path = f"/v1/threads/{thread_id}/runs"
        body = {**self.wish(turns), "on_disconnect": on_disconnect, "if_active": if_active}
        self.look()
        status, answer = self.start(pick, thread_id, path, body, streams, on_disconnect)
        before, after = snapshots = self.look(settled=settled)
        if if_active == "supersede":
            assert status == 200, answer
            held = before.active(thread_id)
            assert held is None or after.runs[held["id"]]["status"] in TERMINAL
        elif not self.judge_lock(
            thread_id, status, answer, "Thread {thread} already has an active run {run}.", snapshots
        ):
            assert not [r for r in after.runs.values() if r["model"] == body["model"]]
        if status == 200:
            assert [r for r in after.runs.values() if r["model"] == body["model"]]

    def start(
        self,
        pick: int,
        thread_id: str,
        path: str,
        body: Any,
        streams: bool,
        on_disconnect: str | None = None,
    ) -> tuple[int, Any]:
        if not streams:
            return self.ask(pick, "POST", path, body)
        stream: Stream = self.world.do(self.world.stream(self.process(pick), thread_id, path, body))
        stream.cancels = on_disconnect == "cancel"
        return stream.status, stream.answer

    @move(
        pick=PICK,
        plans=st.lists(PLANS, min_size=1, max_size=3),
        holds=st.booleans(),
        leaves=st.booleans(),
    )
    def queue_runs(self, pick: int, plans: list[list[TurnPlan]], holds: bool, leaves: bool) -> None:
        """Some that wait for one thread, with ``holds`` behind a model that stands still."""
        if not self.world.thread_ids or len(self.world.waiting) > 6:
            return
        thread_id = self.thread(pick)
        path = f"/v1/threads/{thread_id}/runs"
        if holds:
            self.ask(pick, "POST", path, self.wish([TurnPlan((None,), "stop")]))
        _, before = self.look(settled=True)
        sent: list[Waiting] = []
        for plan in plans:
            body = self.wish(plan, "then?")
            sent.append(self.world.do(self.world.queue(self.process(pick), thread_id, body)))
        _, after = self.look()
        held_before, held_after = before.active(thread_id), after.active(thread_id)
        if held_before and held_after and held_before["id"] == held_after["id"]:
            for one in sent:
                assert one.pending, f"{thread_id} was locked by {held_before}: {one.answer}"
                assert one.run(after) is None
        if leaves:
            self.world.do(self.world.hang_up(sent[pick % len(sent)]))
            self.look()

    def wish(self, turns: list[TurnPlan], words: str = "and?") -> dict[str, Any]:
        return {
            "assistant_id": self.world.assistant_id,
            "model": self.world.model.plan(turns).name,
            "tools": TOOLS,
            "additional_messages": [{"role": "user", "content": words}],
        }

    @move(pick=PICK)
    def hang_up_while_waiting(self, pick: int) -> None:
        waiting = [one for one in self.world.waiting if one.pending]
        if not waiting:
            return
        self.world.do(self.world.hang_up(waiting[pick % len(waiting)]))
        self.look()

    @move(pick=PICK)
    def add_a_message(self, pick: int) -> None:
        if not self.world.thread_ids:
            return
        thread_id = self.thread(pick)
        path = f"/v1/threads/{thread_id}/messages"
        self.look()
        status, answer = self.ask(pick, "POST", path, {"role": "user", "content": "more"})
        self.judge_lock(
            thread_id,
            status,
            answer,
            "Can't add messages to {thread} while a run {run} is active.",
            self.look(),
        )

    @move(
        pick=PICK,
        how=st.sampled_from(("right", "right", "right", "missing", "foreign", "twice", "none")),
        streams=st.booleans(),
        settled=st.booleans(),
    )
    def submit_outputs(self, pick: int, how: str, streams: bool, settled: bool) -> None:
        if not self.now.runs:
            return
        self.look()
        run = self.run(pick)
        asked = [call["id"] for call in run["pending_calls"]]
        given = {
            "right": asked,
            "missing": asked[1:],
            "foreign": [*asked[:-1], "call_foreign"],
            "twice": [*asked, *asked[:1]],
            "none": [],
        }[how]
        body = {"tool_outputs": [{"tool_call_id": name, "output": "12"} for name in given]}
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
        status, answer = self.start(pick, run["thread_id"], path, body, streams)
        seen = statuses(run["id"], *self.look(settled=settled))
        if status == 200:
            assert "requires_action" in seen
            assert given == asked != []
            return
        assert status == 400, answer
        if refusal(answer).startswith("Expected tool outputs"):
            assert "requires_action" in seen
            assert given != asked or not asked
        else:
            refused = refusal(answer).split('"')[1]
            assert refusal(answer) == f'Runs in status "{refused}" do not accept tool outputs.'
            assert refused in seen - allowing("submit")

    @move(pick=PICK, settled=st.booleans())
    def cancel(self, pick: int, settled: bool) -> None:
        if not self.now.runs:
            return
        self.look()
        run = self.run(pick)
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel"
        status, answer = self.ask(pick, "POST", path)
        before, after = self.look(settled=settled)
        seen = statuses(run["id"], before, after)
        if status == 200:
            assert seen & allowing("cancel")
            assert answer["status"] == "cancelling"
            assert after.runs[run["id"]]["status"] in ("cancelling", "cancelled")
        else:
            assert status == 400, answer
            refused = refusal(answer).split("'")[1]
            assert refusal(answer) == f"Cannot cancel run with status '{refused}'."
            assert refused in seen - allowing("cancel")

    @move(pick=PICK, value=st.sampled_from("abc"))
    def change_metadata(self, pick: int, value: str) -> None:
        if not self.now.runs:
            return
        self.look()
        run = self.run(pick)
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
        status, answer = self.ask(pick, "POST", path, {"metadata": {"k": value}})
        before, after = self.look()
        seen = statuses(run["id"], before, after)
        if status == 200:
            assert seen & UPDATABLE
            assert after.runs[run["id"]]["metadata"] == {"k": value}
        else:
            refused = refusal(answer).split("'")[1]
            assert refusal(answer) == f"Cannot update run with status '{refused}'."
            assert refused in seen - UPDATABLE
            assert after.runs[run["id"]]["metadata"] == run["metadata"]

    @move(pick=PICK)
    def read_everything(self, pick: int) -> None:
        """What is listed is what is stored, in its order, and each can be retrieved."""
        if not self.now.runs:
            return
        _, before = self.look(settled=True)
        run = self.run(pick)
        path = f"/v1/threads/{run['thread_id']}"
        status, shown = self.ask(pick, "GET", f"{path}/runs/{run['id']}")
        pages = {}
        for noun in ("runs", "messages", f"runs/{run['id']}/steps"):
            _, page = self.ask(pick, "GET", f"{path}/{noun}?order=asc&limit=100")
            pages[noun.rpartition("/")[2]] = page["data"]
            for one in page["data"][:2]:
                found = self.ask(pick, "GET", f"{path}/{noun}/{one['id']}")
                assert (found[0], found[1]["id"]) == (200, one["id"])
        _, after = self.look()
        assert status == 200, shown
        assert shown["status"] in statuses(run["id"], before, after)
        for noun, column, value in (
            ("runs", "thread_id", run["thread_id"]),
            ("messages", "thread_id", run["thread_id"]),
            ("steps", "run_id", run["id"]),
        ):
            listed = [one["id"] for one in pages[noun]]
            # The model may have gone on meanwhile; what was there is there, in the same order.
            stored = [
                [row["id"] for row in getattr(snapshot, noun).values() if row[column] == value]
                for snapshot in (before, after)
            ]
            assert listed[: len(stored[0])] == stored[0][:100], noun
            assert listed == stored[1][: len(listed)], noun

    @move(pick=PICK)
    def delete_a_thread(self, pick: int) -> None:
        if not self.world.thread_ids:
            return
        thread_id = self.thread(pick)
        status, answer = self.ask(pick, "DELETE", f"/v1/threads/{thread_id}")
        assert (status, answer["deleted"]) == (200, True)
        _, after = self.look()
        assert thread_id not in after.threads
        self.world.thread_ids.remove(thread_id)
        status, answer = self.ask(pick, "GET", f"/v1/threads/{thread_id}/messages")
        assert (status, refusal(answer)) == (404, f"No thread found with id '{thread_id}'.")

    @move(pick=PICK)
    def delete_a_message(self, pick: int) -> None:
        if not self.now.messages:
            return
        messages = list(self.now.messages.values())
        message = messages[-1 - pick % len(messages)]
        path = f"/v1/threads/{message['thread_id']}/messages/{message['id']}"
        status, answer = self.ask(pick, "DELETE", path)
        assert (status, answer["deleted"]) == (200, True)
        _, after = self.look()
        assert message["id"] not in after.messages

    @move(pick=PICK)
    def hang_up(self, pick: int) -> None:
        reading = [stream for stream in self.world.streams if stream.reading]
        if not reading:
            return
        stream = reading[pick % len(reading)]
        was_open = not stream.whole
        self.world.do(stream.leave())
        if stream.cancels and was_open:
            self.world.do(self.world.until(lambda: self.has_ended(stream), "the cancellation"))
        self.look()

    async def has_ended(self, stream: Stream) -> bool:
        now = await self.world.snapshot()
        run = now.runs.get(stream.run_id or "")
        # A stream that reached its end before we left cancels nothing.
        return run is None or run["status"] in (*TERMINAL, "requires_action", "cancelling")

    @move(
        pick=PICK,
        kinds=st.lists(
            st.sampled_from(("cancel", "submit", "message", "run")), min_size=2, max_size=4
        ),
    )
    def several_at_once(self, pick: int, kinds: list[str]) -> None:
        if not self.now.runs:
            return
        self.look()
        run = self.run(pick)
        thread = f"/v1/threads/{run['thread_id']}"
        outputs = [{"tool_call_id": call["id"], "output": "1"} for call in run["pending_calls"]]
        requests: dict[str, tuple[str, Any]] = {
            "cancel": (f"{thread}/runs/{run['id']}/cancel", None),
            "submit": (f"{thread}/runs/{run['id']}/submit_tool_outputs", {"tool_outputs": outputs}),
            "message": (f"{thread}/messages", {"role": "user", "content": "x"}),
            "run": (
                f"{thread}/runs",
                {
                    "assistant_id": self.world.assistant_id,
                    "model": self.world.model.plan([TurnPlan((None, "x"), "stop")]).name,
                },
            ),
        }

        async def at_once() -> list[tuple[int, Any]]:
            return await asyncio.gather(
                *(
                    _ask(self.process(pick + number), "POST", *requests[kind])
                    for number, kind in enumerate(kinds)
                )
            )

        answers = self.world.do(at_once())
        self.look()
        assert {status for status, _ in answers} <= {200, 400}, answers
        for kind in ("cancel", "submit", "run"):
            same = [status for k, (status, _) in zip(kinds, answers, strict=True) if k == kind]
            assert same.count(200) <= 1, f"{kind} got through twice: {answers}"

    # The model

    @move(pick=PICK, settled=st.booleans())
    def the_model_goes_on(self, pick: int, settled: bool) -> None:
        holding = [run for run in self.unended() if self.plan_of(run).holding]
        if not holding:
            return
        self.plan_of(holding[pick % len(holding)]).release()
        self.look(settled=settled)

    def unended(self) -> list[Row]:
        return [run for run in self.now.runs.values() if run["status"] not in TERMINAL]

    def plan_of(self, run: Row) -> Any:
        return self.world.model[run["model"]]

    # Time

    @move(steps=st.integers(1, int((EXPIRY + LEASE) / STEP)))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.world.do(self.world.advance())
            self.look()
        _, now = self.look(settled=True)
        time = self.world.clock.now()
        for run in now.runs.values():
            if run["status"] in TERMINAL:
                continue
            assert run["expires_at"] > time, f"{run['id']} outlives its time: {run['status']}"
            died = self.world.dead.get(run["owner"])
            if died is not None and run["status"] != "requires_action":
                assert died + LEASE + STEP >= time, f"nobody took {run['id']} over"

    @move(seconds=st.sampled_from((LEASE + 1, EXPIRY + 1)))
    def everything_stands_still_for_a_while(self, seconds: float) -> None:
        """As a suspended machine: leases run out though their processes live."""
        if len(self.world.processes) == 1:
            return
        self.world.clock.advance(seconds - STEP)
        self.world.do(self.world.advance())
        self.look(settled=True)

    # Processes

    @move()
    def a_process_starts(self) -> None:
        if len(self.world.processes) == 2:
            return
        self.world.do(self.world.start())
        self.look()

    @move(pick=PICK, violently=st.booleans())
    def a_process_ends(self, pick: int, violently: bool) -> None:
        if len(self.world.processes) == 1:
            self.world.do(self.world.start())
        process = self.process(pick)
        mine = [r["id"] for r in self.now.runs.values() if r["owner"] == process.worker]
        self.world.do(self.world.end(process, violently=violently))
        _, after = self.look()
        if not violently:
            for run_id in mine:
                status = after.runs[run_id]["status"]
                assert status in (*TERMINAL, "requires_action"), "left behind by an orderly end"


async def _ask(process: Process, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    response = await process.http.request(method, path, json=body)
    return response.status_code, response.json()


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    made = World(tmp_path, database)
    made.open()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"] if NIGHTLY else ["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'assistants.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.mark.timeout(0 if NIGHTLY else 300)
def test_no_interleaving_breaks_a_promise(world: World) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.reuse, Phase.generate, *((Phase.shrink,) if NIGHTLY else ())),
    )
    @given(moves=st.lists(st.one_of(MOVES), min_size=LENGTH, max_size=LENGTH))
    def play(moves: list[tuple[str, dict[str, Any]]]) -> None:
        Interleavings(world).play(moves)

    play()
