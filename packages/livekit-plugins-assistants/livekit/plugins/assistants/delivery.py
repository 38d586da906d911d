"""A plan as requests.

With the extensions a turn is one request, whatever it changes. Without them the same plan runs as
several standard ones: end what is active, delete, add, then run. What a request that arrives late
can then do wrong cannot be cured; with the extensions it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import openai

from .errors import is_busy, is_missing, is_refusal
from .ledger import Adding, Held, Ledger, OpenRun
from .messages import ITEM_ID, answers_as_text, parts_of, wire_content, wire_message
from .plan import Changes, NewRun, Scratch, Submit, added
from .resources import Assistant
from .server import Json, Server, side_by_side
from .snapshot import Answer, Snapshot, digest
from .tools import merge_hosted

RUN_KEY = "livekit_run_key"
"""Run metadata: the run's key, by which a run is found that has not told its id."""

_METADATA_PAIRS = 16

T = TypeVar("T")

_ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
_FIRST_POLL = 0.02
_LONGEST_POLL = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    body: Json


def submission(thread_id: str, plan: Submit) -> Request:
    return Request(
        f"/threads/{thread_id}/runs/{plan.run.run_id}/submit_tool_outputs",
        {
            "tool_outputs": [
                {"tool_call_id": one.call_id, "output": one.output} for one in plan.answers
            ],
            "stream": True,
        },
    )


def creation(
    thread_id: str,
    plan: NewRun,
    snapshot: Snapshot,
    *,
    key: str,
    assistant: Assistant,
    files: Mapping[str, str],
) -> Request:
    """The one request of a turn."""
    body = _run_body(snapshot, assistant, key)
    body["run_key"] = key
    body["if_active"] = "queue"
    body["on_disconnect"] = "cancel"
    changes = plan.changes
    if plan.end_runs:
        body["end_runs"] = [{"run_key": ended, "keep": list(keep)} for ended, keep in plan.end_runs]
    if plan.answers:
        body["tool_outputs"] = [_carried(one) for one in plan.answers]
    if changes.edits:
        body["edit_messages"] = [
            {"id": edit.message_id, "content": wire_content(edit.entry, files)}
            for edit in changes.edits
        ]
    if changes.deletes:
        body["delete_messages"] = list(changes.deletes)
    if plan.excludes:
        body["exclude_messages"] = list(plan.excludes)
    if changes.messages:
        body["additional_messages"] = [wire_message(one, files) for one in changes.messages]
    if plan.last_messages is not None:
        _narrow(body, plan.last_messages)
    return Request(f"/threads/{thread_id}/runs", body)


def standard_creation(
    thread_id: str,
    plan: NewRun,
    snapshot: Snapshot,
    *,
    key: str,
    assistant: Assistant,
) -> Request:
    """The last of a turn's requests on a server without the extensions."""
    body = _run_body(snapshot, assistant, key)
    if plan.answers:
        said = [body.get("additional_instructions"), answers_as_text(plan.answers)]
        body["additional_instructions"] = "\n\n".join(text for text in said if text)
    window = _window(plan.changes)
    if window is not None:
        _narrow(body, window)
    return Request(f"/threads/{thread_id}/runs", body)


def scratch(
    plan: Scratch, snapshot: Snapshot, *, assistant: Assistant, files: Mapping[str, str]
) -> Request:
    """A run on a thread of its own. Its tool calls, if any, are told in words."""
    body = _run_body(snapshot, assistant)
    told = [
        body.pop("instructions", None),
        body.pop("additional_instructions", None),
        answers_as_text(plan.answers) if plan.answers else None,
    ]
    instructions = "\n\n".join(text for text in told if text)
    if instructions:
        body["instructions"] = instructions
    body["thread"] = {
        "messages": [
            {"role": one.role, "content": wire_content(one, files)} for one in plan.entries
        ]
    }
    return Request("/threads/runs", body)


async def end_runs(server: Server, ledger: Ledger, *, patience: float) -> Ledger:
    """End every run of ours that may be active, and return when it has ended. With the extensions
    that is one request, and what comes late is refused."""
    thread = f"/threads/{ledger.thread_id}"
    if server.extensions:
        named = [{"run_key": run.key} for run in ledger.runs]
        await server.request("POST", thread, body={"end_runs": named})
    for run in ledger.runs:
        run_id = run.run_id or await run_of_key(server, thread, run.key)
        if run_id is not None:
            if not server.extensions:
                await _cancel(server, f"{thread}/runs/{run_id}", patience=patience)
            ledger = ledger.with_run(replace(run, run_id=run_id, state="cut"))
    return ledger


async def store_outputs(server: Server, ledger: Ledger, answers: Sequence[Answer]) -> Ledger:
    """Give a waiting run the outputs it waits for, if all are known; whoever calls ends the run."""
    known = {one.call_id: one.output for one in answers}
    for run in ledger.runs:
        if run.state != "waiting" or not set(run.pending) <= set(known):
            continue
        path = f"/threads/{ledger.thread_id}/runs/{run.run_id}/submit_tool_outputs"
        outputs = [{"tool_call_id": call, "output": known[call]} for call in run.pending]
        try:
            await server.request("POST", path, body={"tool_outputs": outputs})
        except (openai.BadRequestError, openai.NotFoundError):
            continue  # it ended meanwhile
        answered = {**ledger.answered, **dict.fromkeys(run.pending)}
        ledger = replace(ledger, answered=answered)
    return ledger


async def confirm(server: Server, ledger: Ledger, *, patience: float) -> AsyncIterator[Ledger]:
    """Send what may have been added once more, under its key: it is there afterwards, once, also
    if the first request arrives only later. For servers that honour the key."""
    for item_id, one in ledger.adding.items():
        try:
            made = await _add(server, ledger.thread_id, one, patience=patience)
        except openai.APIStatusError as error:
            if not is_refusal(error) or is_busy(error) or is_missing(error, "thread"):
                raise
            ledger = ledger.refuses(item_id)
        else:
            ledger = ledger.holds(item_id, made["id"])
        yield ledger


async def reload(server: Server, ledger: Ledger, items: frozenset[str]) -> Ledger:
    """The ledger put right by what the thread really holds, back to its base.

    Messages of ours whose adding was not confirmed are recognised by their item id, replies by the
    run that wrote them; what others wrote stays out of it.
    """
    path = f"/threads/{ledger.thread_id}/messages"
    base = {one.message_id for one in ledger.held if one.turn is None}
    found: list[Json] = []
    after: str | None = None
    while True:
        page = await server.page(path, after=after)
        found.extend(page["data"])
        if not page.get("has_more") or not base.isdisjoint(m["id"] for m in page["data"]):
            break
        after = page["data"][-1]["id"]
    messages = {message["id"]: message for message in reversed(found)}
    runs = {run.run_id: run for run in ledger.runs if run.run_id is not None}
    known = {message: one for one in ledger.held for message in one.message_ids}
    adding = dict(ledger.adding)

    held = [one for one in ledger.held if one.turn is None]
    for message_id, message in messages.items():
        one = known.get(message_id)
        if one is not None:
            if one.turn is not None and one.message_id == message_id:
                held.append(_as_stored(one, messages))
            continue
        item_id: str | None = (message.get("metadata") or {}).get(ITEM_ID)
        run = runs.get(message.get("run_id") or "")
        if item_id is not None and (sent := adding.pop(item_id, None)):
            held.append(replace(sent.held, message_id=message_id))
        elif item_id in items or run is not None:
            held.append(_found(message, item_id, run))
    return replace(ledger, held=tuple(held), adding=adding)


async def apply(
    server: Server,
    ledger: Ledger,
    changes: Changes,
    *,
    files: Mapping[str, str],
    turn: int,
    view: int | None,
    committed: bool,
    patience: float,
) -> AsyncIterator[Ledger]:
    """Carry changes out one by one; what comes is the ledger after each."""
    path = f"/threads/{ledger.thread_id}/messages"
    if changes.deletes:
        await side_by_side(*(_delete(server, f"{path}/{one}") for one in changes.deletes))
    ledger = replace(ledger, held=changes.held, removed=ledger.removed | changes.removed)
    yield ledger
    for edit in changes.edits:
        content = wire_content(edit.entry, files)
        await server.request("POST", f"{path}/{edit.message_id}", body={"content": content})
    for entry in changes.messages:
        held = added(entry, "", changes, turn=turn, view=view, committed=committed)
        adding = Adding(key=uuid.uuid4().hex, body=wire_message(entry, files), held=held)
        ledger = ledger.sends(entry.item_id, adding)
        yield ledger
        try:
            made = await _add(server, ledger.thread_id, adding, patience=patience)
        except openai.APIStatusError as error:
            if is_refusal(error):
                yield ledger.refuses(entry.item_id)
            raise
        ledger = ledger.holds(entry.item_id, made["id"])
        yield ledger


async def _add(server: Server, thread_id: str, adding: Adding, *, patience: float) -> Json:
    send = functools.partial(
        server.request,
        "POST",
        f"/threads/{thread_id}/messages",
        body=adding.body,
        idempotency_key=adding.key,
    )
    return await when_free(send, patience=patience)


async def when_free(send: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """Send a request; while another client's run locks the thread, again and again."""
    deadline = asyncio.get_running_loop().time() + patience
    delay = _FIRST_POLL
    while True:
        try:
            return await send()
        except openai.BadRequestError as error:
            if not is_busy(error) or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_POLL)


def _run_body(snapshot: Snapshot, assistant: Assistant, key: str | None = None) -> Json:
    body: Json = {"assistant_id": assistant.id, "stream": True, **snapshot.settings}
    metadata = body.get("metadata", {})
    if key is not None and len(metadata) < _METADATA_PAIRS:
        body["metadata"] = {**metadata, RUN_KEY: key}
    if body.get("tools"):
        body["tools"] = merge_hosted(body["tools"], assistant.tools)
    return body


def _carried(answer: Answer) -> Json:
    return {
        "tool_call_id": answer.call_id,
        "output": answer.output,
        "name": answer.name,
        "arguments": answer.arguments or "{}",
    }


def _narrow(body: Json, count: int) -> None:
    """Show ``count`` messages at most."""
    asked = (body.get("truncation_strategy") or {}).get("last_messages")
    body["truncation_strategy"] = {
        "type": "last_messages",
        "last_messages": min(count, asked) if isinstance(asked, int) else count,
    }


def _window(changes: Changes) -> int | None:
    """How many messages to show, where all that is hidden is the thread's head."""
    hidden = frozenset(changes.hidden)
    shown = [one.message_id not in hidden for one in changes.held]
    if all(shown):
        return None
    first = shown.index(True) if True in shown else len(shown)
    if not all(shown[first:]):
        return None  # another agent's turn in between: it is visible
    count = sum(len(one.message_ids) for one in changes.held[first:]) + len(changes.messages)
    return count or None


async def _cancel(server: Server, path: str, *, patience: float) -> None:
    """Cancel a run and wait until it has ended. Its status tells, whatever a refusal means."""
    deadline = asyncio.get_running_loop().time() + patience
    delay = _FIRST_POLL
    status = ""
    while True:
        try:
            if status != "cancelling":
                with contextlib.suppress(openai.BadRequestError):
                    await server.request("POST", f"{path}/cancel")
            status = (await server.request("GET", path))["status"]
        except openai.NotFoundError as error:
            _check_gone(error, "run")
            return
        if status not in _ACTIVE or asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_POLL)


async def run_of_key(server: Server, thread: str, key: str) -> str | None:
    page = await server.page(f"{thread}/runs")
    for run in page["data"]:
        if (run.get("metadata") or {}).get(RUN_KEY) == key:
            found: str = run["id"]
            return found
    return None


async def _delete(server: Server, path: str) -> None:
    try:
        await server.request("DELETE", path)
    except openai.NotFoundError as error:
        _check_gone(error, "message")


def _check_gone(error: openai.NotFoundError, noun: str) -> None:
    """That it is not there is as good; that a proxy on the way does not know the path is not."""
    if not is_missing(error, noun):
        raise error


def _as_stored(held: Held, messages: Mapping[str, Json]) -> Held:
    also = tuple(one for one in held.also if one in messages)
    parts = [part for one in (held.message_id, *also) for part in parts_of(messages[one])]
    if any(block.get("type") == "image_file" for block in messages[held.message_id]["content"]):
        return replace(held, also=also)  # its digest names images by their keys, not their files
    return replace(held, also=also, digest=digest(parts), loose=False)


def _found(message: Json, item_id: str | None, run: OpenRun | None) -> Held:
    written = message.get("run_id") is not None
    return Held(
        message_id=message["id"],
        role=message["role"],
        digest=digest(parts_of(message)),
        item_id=item_id,
        turn=run.turn if run is not None else -1,
        run_key=run.key if run is not None else None,
        written=written,
        void=written,
    )
