"""How a run begins: one transaction, all or nothing.

The order matters and is documented with the extensions: refuse dead or used names; end runs,
answering their calls, and delete what they leave; look for an active run; delete; edit; add
messages; insert the run, with the outputs it carries in front of its messages. A request that is
refused at any of these has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors, ids
from ..domain.drafts import CarriedOutput, MessageDraft, RunDraft, ThreadDraft
from ..domain.records import Assistant, Message, Run, Step, Thread, Usage
from . import (
    assistants,
    attachments,
    messages,
    rows,
    run_endings,
    runs,
    steps,
    thread_lock,
    threads,
)
from .prepared import Prepared
from .run_endings import Ending, Outcome, Unstored

_BACKWARDS = (
    sa.select(rows.messages.c.seq)
    .where(rows.messages.c.thread_id == sa.bindparam("thread_id"))
    .order_by(rows.messages.c.seq.desc())
    .offset(sa.bindparam("newer"))
    .limit(1)
)
_NTH_NEWEST = Prepared(_BACKWARDS)
_FROM_USER = Prepared(
    sa.select(rows.messages.c.seq)
    .where(rows.messages.c.thread_id == sa.bindparam("thread_id"), rows.messages.c.role == "user")
    .limit(1)
)


class ThreadBusy(Exception):
    """Another run is active and the request asked to wait for it. Nothing was changed."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who is to execute the new run, and how long it and its lease last."""

    owner: str
    lease_until: float
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """``run`` is as clients are told of it first, ``started`` as it is stored: its turn has begun
    in the same transaction."""

    run: Run
    started: Run
    thread: Thread | None = None
    ended: Sequence[Ending] = ()


def create_with_thread(
    connection: Connection,
    project_id: str,
    thread_draft: ThreadDraft,
    draft: RunDraft,
    *,
    now: int,
    claim: Claim,
) -> Created:
    """A new thread with its first run.

    Raises:
        NotFound: no such assistant.
        BadRequest: nothing to run on.
    """
    assistant = assistants.get(connection, project_id, draft.assistant_id)
    thread = threads.create(connection, project_id, thread_draft, now=now)
    run = _run(
        ids.run_id(),
        thread.id,
        assistant,
        draft,
        now=now,
        claim=claim,
        first_position=_first_position(connection, thread.id, draft),
    )
    _check_content(connection, run, thread_draft.messages)
    started = runs.begin(connection, run, now=now)
    return Created(run=run, started=started, thread=thread)


def create(
    connection: Connection,
    project_id: str,
    thread_id: str,
    draft: RunDraft,
    *,
    now: int,
    claim: Claim,
    unstored: Callable[[str], Unstored | None],
) -> Created:
    """A run on an existing thread, with everything the request asks to be done to the thread.

    Args:
        unstored: what this process holds of a run it is executing, beyond the database.

    Raises:
        NotFound: no such thread or assistant.
        BadRequest: an active run, a used or dead name, a message to edit that is not there, or
            nothing to run on.
        ThreadBusy: ``if_active="queue"`` and there is a run to wait for.
    """
    wishes = draft.extensions
    thread_lock.hold(connection, project_id, thread_id)
    assistant = assistants.get(connection, project_id, draft.assistant_id)
    if wishes.run_key is not None:
        if runs.is_dead_key(connection, thread_id, wishes.run_key):
            raise errors.run_ended(wishes.run_key)
        if runs.by_key(connection, thread_id, wishes.run_key) is not None:
            raise errors.run_key_exists(wishes.run_key)

    # Of two outputs for one call the second finds it answered already.
    outputs = list({one.tool_call_id: one for one in reversed(wishes.tool_outputs)}.values())[::-1]
    answers = {output.tool_call_id: output.output for output in outputs}
    ended = run_endings.end_named(
        connection, thread_id, wishes.end_runs, answers, now=now, unstored=unstored
    )
    active = runs.active(connection, thread_id)
    if active is not None and active.is_overdue(now):
        ending = run_endings.end(
            connection, active, Outcome(cause="expire"), now=now, unstored=unstored(active.id)
        )
        if ending is not None:
            ended.append(ending)
            active = None
    if active is not None:
        if wishes.if_active == "queue":
            raise ThreadBusy(active.id)
        if wishes.if_active == "error":
            raise errors.active_run(thread_id, active.id)
        ended += run_endings.end_by_request(connection, active, answers, now=now, unstored=unstored)

    messages.discard(connection, thread_id, wishes.delete_messages)
    messages.edit(connection, thread_id, wishes.edit_messages)

    before = steps.next_place(connection, thread_id) if outputs else 0
    run_id = ids.run_id()
    added = [
        messages.from_draft(thread_id, message, now=now, added_by_run_id=run_id)
        for message in draft.additional_messages
    ]
    attachments.join(connection, thread_id, draft.additional_messages)
    for message in added:
        messages.insert(connection, message)
    run = _run(
        run_id,
        thread_id,
        assistant,
        draft,
        now=now,
        claim=claim,
        first_position=_first_position(connection, thread_id, draft),
        added=added,
    )
    _check_content(connection, run, draft.additional_messages)
    started = runs.begin(connection, run, now=now)
    _record_outputs(connection, run, outputs, after_position=before, now=now)
    return Created(run=run, started=started, ended=ended)


def _run(
    run_id: str,
    thread_id: str,
    assistant: Assistant,
    draft: RunDraft,
    *,
    now: int,
    claim: Claim,
    first_position: int,
    added: Sequence[Message] = (),
) -> Run:
    instructions = draft.instructions if draft.instructions is not None else assistant.instructions
    if draft.additional_instructions:
        instructions = "\n".join(filter(None, (instructions, draft.additional_instructions)))
    wishes = draft.extensions
    return Run(
        id=run_id,
        project_id=assistant.project_id,
        thread_id=thread_id,
        assistant_id=assistant.id,
        created_at=now,
        status="queued",
        expires_at=claim.expires_at,
        model=draft.model or assistant.model,
        instructions=instructions,
        tools=assistant.tools if draft.tools is None else draft.tools,
        tool_resources=(
            assistant.tool_resources if draft.tool_resources is None else draft.tool_resources
        ),
        metadata=draft.metadata,
        temperature=(assistant.temperature if draft.temperature is None else draft.temperature),
        top_p=assistant.top_p if draft.top_p is None else draft.top_p,
        reasoning_effort=draft.reasoning_effort or assistant.reasoning_effort,
        max_prompt_tokens=draft.max_prompt_tokens,
        max_completion_tokens=draft.max_completion_tokens,
        truncation_strategy=draft.truncation_strategy or {"type": "auto", "last_messages": None},
        response_format=draft.response_format or assistant.response_format,
        tool_choice=draft.tool_choice or "auto",
        parallel_tool_calls=draft.parallel_tool_calls,
        usage=Usage(),
        run_key=wishes.run_key,
        additional_message_ids=[message.id for message in added] if wishes.used else None,
        excluded_ids=list(wishes.exclude_messages),
        first_position=first_position,
        cancel_on_disconnect=wishes.on_disconnect == "cancel",
        owner=claim.owner,
        lease_until=claim.lease_until,
    )


def _record_outputs(
    connection: Connection,
    run: Run,
    outputs: Sequence[CarriedOutput],
    *,
    after_position: int,
    now: int,
) -> None:
    """Outputs whose call nobody has answered become a finished tool turn of the new run."""
    known = steps.answered(connection, run.thread_id, [one.tool_call_id for one in outputs])
    calls = [
        {
            "id": one.tool_call_id,
            "type": "function",
            "function": {
                "name": one.name,
                "arguments": one.arguments or "{}",
                "output": one.output,
            },
        }
        for one in outputs
        if one.name is not None and one.tool_call_id not in known
    ]
    if calls:
        steps.insert(
            connection,
            Step(
                id=ids.step_id(),
                run_id=run.id,
                thread_id=run.thread_id,
                assistant_id=run.assistant_id,
                created_at=now,
                type="tool_calls",
                status="completed",
                completed_at=now,
                tool_calls=calls,
                usage=Usage(),
                after_position=after_position,
            ),
        )


def _first_position(connection: Connection, thread_id: str, draft: RunDraft) -> int:
    """``last_messages`` counts what is shown now; what comes later is shown as well."""
    strategy = draft.truncation_strategy
    if strategy is None or strategy["type"] != "last_messages":
        return 0
    excluded = draft.extensions.exclude_messages
    place = {"thread_id": thread_id, "newer": strategy["last_messages"] - 1}
    first: int | None
    if excluded:
        shown = _BACKWARDS.where(rows.messages.c.id.not_in(excluded))
        first = connection.execute(shown, place).scalar()
    else:
        found = _NTH_NEWEST.first(connection, place)
        first = None if found is None else found["seq"]
    return first or 0


def _check_content(connection: Connection, run: Run, added: Sequence[MessageDraft]) -> None:
    if run.instructions or any(message.role == "user" for message in added):
        return
    if _FROM_USER.first(connection, {"thread_id": run.thread_id}) is None:
        raise errors.nothing_to_run_on()
