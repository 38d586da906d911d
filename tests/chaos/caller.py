"""One client of the official SDK at work: every kind of request, every answer into the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import openai

from .ledger import Ledger, RunSeen, Stored, Written
from .model import KINDS

T = TypeVar("T")

TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}
ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
THREADS = 3  # of one caller at a time; older ones stay as they are until the audit


class Refused(Exception):
    """An answer of 4xx: the request changed nothing."""

    def __init__(self, code: str | None) -> None:
        super().__init__(code)
        self.code = code


class Unanswered(Exception):
    """No answer, or a 5xx: the request may or may not have been done."""


class Caller:
    """Its actions come from ``seed``; how long each takes does not."""

    def __init__(self, number: int, seed: int, base_url: str, ledger: Ledger) -> None:
        self._name = f"c{number}"
        self._random = random.Random(f"{seed} {number}")
        self._ledger = ledger
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key="chaos", max_retries=0, timeout=15
        )
        self._number = 0
        self._assistant = ""
        self._threads: list[str] = []
        self._last_run: dict[str, RunSeen] = {}  # by thread

    async def work(self, finished: asyncio.Event) -> None:
        """Until ``finished``; what is under way then is ended first."""
        while not finished.is_set():
            with contextlib.suppress(Refused, Unanswered):
                await self._act()
        await self._client.close()

    async def _act(self) -> None:
        if not self._assistant:
            assistants = self._client.beta.assistants
            made = await self._ask(assistants.create(model="gpt-4o", instructions="Obey."))
            self._assistant = made.id
        if len(self._threads) < THREADS or self._random.random() < 0.05:
            await self._open_thread()
            return
        actions: tuple[tuple[Callable[[str], Awaitable[None]], int], ...] = (
            (self._converse, 50),
            (self._poll, 10),
            (self._write, 15),
            (self._touch, 10),
            (self._delete, 5),
            (self._upload, 5),
            (self._look, 5),
        )
        action = self._random.choices([one for one, _ in actions], [odds for _, odds in actions])[0]
        await action(self._random.choice(self._threads[-THREADS:]))

    # Requests

    async def _ask(self, request: Awaitable[T]) -> T:
        """The answer.

        Raises:
            Refused: nothing has happened.
            Unanswered: nobody knows.
        """
        try:
            answer = await request
        except (openai.APIConnectionError, openai.InternalServerError):
            self._ledger.unanswered += 1
            await asyncio.sleep(0.2)
            raise Unanswered from None
        except openai.APIStatusError as error:
            self._ledger.refused(f"{error.status_code} {error.code or error.message[:20]}")
            raise Refused(error.code) from None
        self._ledger.answers += 1
        return answer

    def _marker(self) -> str:
        self._number += 1
        return f"{self._name}.{self._number}"

    def _speech(self, thread_id: str) -> Written:
        kind = self._random.choice(KINDS)
        words, pace = self._random.randint(4, 40), self._random.choice((0, 5, 20))
        return self._ledger.write(thread_id, f"{self._marker()} play {kind} {words} {pace}")

    async def _open_thread(self) -> None:
        marker = self._marker()
        thread = await self._ask(
            self._client.beta.threads.create(messages=[{"role": "user", "content": marker}])
        )
        self._threads.append(thread.id)
        self._ledger.threads.append(thread.id)
        self._ledger.write(thread.id, marker).acknowledge()

    async def _write(self, thread_id: str) -> None:
        written = self._ledger.write(thread_id, self._marker())
        messages = self._client.beta.threads.messages
        try:
            made = await self._ask(messages.create(thread_id, role="user", content=written.marker))
        except Refused:
            written.state = "gone"
            raise
        written.acknowledge(made.id)

    def _one_of(self, thread_id: str) -> Written | None:
        known = [
            one for one in self._ledger.in_thread(thread_id) if one.state == "there" and one.id
        ]
        return self._random.choice(known) if known else None

    async def _touch(self, thread_id: str) -> None:
        written = self._one_of(thread_id)
        if written is None or written.id is None:
            return
        self._number += 1
        written.touched, number = None, self._number
        await self._ask(
            self._client.beta.threads.messages.update(
                written.id, thread_id=thread_id, metadata={"touched": str(number)}
            )
        )
        written.touched = number

    async def _delete(self, thread_id: str) -> None:
        written = self._one_of(thread_id)
        if written is None or written.id is None:
            return
        written.state = "open"
        await self._ask(self._client.beta.threads.messages.delete(written.id, thread_id=thread_id))
        written.state = "gone"

    async def _upload(self, thread_id: str) -> None:
        data = self._random.randbytes(self._random.choice((10, 5_000, 700_000)))
        file = await self._ask(self._client.files.create(file=("f.bin", data), purpose="user_data"))
        self._ledger.files.append(Stored(file.id, hashlib.sha256(data).hexdigest()))

    async def _look(self, thread_id: str) -> None:
        """As a client that lost its stream: what is shown once must stay true."""
        runs = await self._ask(self._client.beta.threads.runs.list(thread_id, limit=10))
        for run in runs.data:
            self._ledger.run(run)
        page = await self._ask(
            self._client.beta.threads.messages.list(thread_id, limit=100, order="desc")
        )
        shown = {_text(message): message.id for message in page.data}
        for written in self._ledger.in_thread(thread_id):
            if written.marker in shown and written.id is None and written.state == "open":
                written.id, written.state = shown[written.marker], "there"

    async def _poll(self, thread_id: str) -> None:
        """Without a stream."""
        runs = self._client.beta.threads.runs
        written = self._speech(thread_id)
        try:
            run = await self._ask(
                runs.create(
                    thread_id,
                    assistant_id=self._assistant,
                    additional_messages=[{"role": "user", "content": written.marker}],
                    extra_body={"if_active": "supersede"},
                )
            )
        except Refused:
            written.state = "gone"
            raise
        written.acknowledge()
        self._know(written, self._ledger.run(run))
        for _ in range(self._random.randint(0, 20)):
            if run.status not in ACTIVE:
                break
            await asyncio.sleep(0.1)
            run = await self._ask(runs.retrieve(run.id, thread_id=thread_id))
            self._ledger.run(run)

    def _know(self, written: Written, run: RunSeen) -> None:
        self._last_run[written.thread_id] = run
        run.run_key = written.run_key
        if run.brought:
            written.id = run.brought[0]

    # A turn with its stream

    async def _converse(self, thread_id: str) -> None:
        written = self._speech(thread_id)
        written.run_key = self._marker()
        wishes: dict[str, Any] = {
            "run_key": written.run_key,
            "if_active": self._random.choice(("supersede", "supersede", "queue", "error")),
            "on_disconnect": self._random.choice(("continue", "cancel")),
        }
        dropped = self._end_the_last(thread_id, wishes)
        stream = await self._insist(written, wishes, dropped)
        ending = None
        if self._random.random() < 0.25:
            ending = asyncio.create_task(self._cancel_soon(thread_id))
        try:
            await self._follow(stream, written)
        finally:
            if ending is not None:
                await ending

    async def _insist(
        self, written: Written, wishes: dict[str, Any], dropped: RunSeen | None
    ) -> Any:
        """The run's stream. Some callers give up at once, some ask again with the same name."""
        attempts = self._random.choice((1, 1, 20))
        for attempt in range(attempts):
            try:
                stream = await self._ask(
                    self._client.beta.threads.runs.create(
                        written.thread_id,
                        assistant_id=self._assistant,
                        additional_messages=[{"role": "user", "content": written.marker}],
                        tools=[TOOL],  # type: ignore[list-item]
                        stream=True,
                        extra_body=wishes,
                    )
                )
            except Unanswered:
                if attempt == attempts - 1:
                    raise
            except Refused as refusal:
                if attempt and refusal.code == "run_key_exists":
                    # The answer that was lost had said yes.
                    self._ledger.keyed(written, dropped)
                elif not attempt:
                    written.state = "gone"
                    self._ledger.spare(dropped)
                raise
            else:
                self._ledger.keyed(written, dropped)
                return stream
        raise AssertionError("unreachable")

    def _end_the_last(self, thread_id: str, wishes: dict[str, Any]) -> RunSeen | None:
        """Sometimes the request ends the run before it, and sometimes drops all that it brought."""
        last = self._last_run.get(thread_id)
        if last is None or last.run_key is None or self._random.random() < 0.5:
            return None
        if self._random.random() < 0.5:
            wishes["end_runs"] = [{"run_key": last.run_key}]
            return None
        wishes["end_runs"] = [{"run_key": last.run_key, "keep": []}]
        self._ledger.drop(last)
        return last

    async def _follow(self, stream: Any, written: Written) -> None:
        patience = self._random.choice((10_000, 10_000, 10_000, self._random.randint(1, 30)))
        run: RunSeen | None = None
        pending: list[Any] = []
        try:
            async for event in stream:
                if event.event in ("error", "done"):
                    break
                self._ledger.event(event.event, event.data)
                if event.event.startswith("thread.run.") and ".step." not in event.event:
                    run = self._ledger.runs[event.data.id]
                    self._know(written, run)
                    if event.data.required_action is not None:
                        pending = event.data.required_action.submit_tool_outputs.tool_calls
                patience -= 1
                if patience == 0:
                    return  # hangs up, below
        except (openai.APIError, openai.APIConnectionError):
            self._ledger.unanswered += 1
            return
        except Exception as error:  # the SDK lets its transport's errors through in mid-stream
            if not type(error).__module__.startswith(("httpx2", "httpcore2", "httpcore")):
                raise
            self._ledger.unanswered += 1
            return
        finally:
            with contextlib.suppress(Exception):
                await stream.close()
        if run is not None and pending and self._random.random() < 0.9:
            await self._submit(run, pending, written)

    async def _submit(self, run: RunSeen, pending: list[Any], written: Written) -> None:
        stream = await self._ask(
            self._client.beta.threads.runs.submit_tool_outputs(
                run.id,
                thread_id=run.thread_id,
                tool_outputs=[{"tool_call_id": call.id, "output": "found"} for call in pending],
                stream=True,
            )
        )
        await self._follow(stream, written)

    async def _cancel_soon(self, thread_id: str) -> None:
        await asyncio.sleep(self._random.random() * 0.5)
        run = self._last_run.get(thread_id)
        if run is not None:
            with contextlib.suppress(Refused, Unanswered):
                cancel = self._client.beta.threads.runs.cancel(run.id, thread_id=thread_id)
                self._ledger.run(await self._ask(cancel))


def _text(message: Any) -> str:
    return "".join(block.text.value for block in message.content if block.type == "text")
