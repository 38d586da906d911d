"""The calls of ``chat()`` and what became of each: who speaks is not told, it has to be watched.

Agents and sessions are known by tokens, numbers that are never given twice.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livekit.agents.llm import ChatContext, ImageContent

from .ledger import Fates, Ledger, fates_of
from .snapshot import Answer, Entry, EntryCache, Projection, Snapshot, project
from .voice import Speech, current_scene

if TYPE_CHECKING:
    from livekit.agents import AgentSession


@dataclass(slots=True)
class Turn:
    """One call of ``chat()``. ``streaming`` until its stream ended, was closed or failed."""

    number: int
    speech: Speech | None
    session: int | None
    streaming: bool = True
    over: bool = False
    discarded: bool = False

    def look(self) -> None:
        """Note what has become of it, and let go of the speech once that is final."""
        if self.speech is None:
            self.over = self.over or not self.streaming
            return
        # A speculation that is not scheduled by the time it is interrupted never will be.
        if not self.speech.scheduled and (self.speech.interrupted or self.speech.done()):
            self.discarded = True
        if self.speech.done():
            self.over = True
            self.speech = None


class Turns:
    def __init__(self) -> None:
        self.last = 0
        self._turns: dict[int, Turn] = {}
        self._numbers = itertools.count(1)
        self._tokens: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._sessions: dict[int, weakref.ref[AgentSession[Any]]] = {}
        self._cache = EntryCache()

    def picture(self, context: ChatContext) -> Projection:
        return project(context, self._cache)

    def take(
        self, context: ChatContext, settings: Mapping[str, Any]
    ) -> tuple[Snapshot, Mapping[str, ImageContent]]:
        """The picture of a context that ``chat()`` was called with; its turn begins."""
        scene = current_scene()
        picture = self.picture(context)
        self.last += 1
        session = self._token(scene.session)
        if session is not None and session not in self._sessions and scene.session is not None:
            self._sessions[session] = weakref.ref(scene.session)
        open_turns = frozenset(
            turn.number
            for turn in self._looked_at()
            if not turn.over and (turn.speech is None or turn.speech is not scene.speech)
        )
        turn = Turn(self.last, scene.speech, session)
        self._turns[turn.number] = turn
        body = dict(settings)
        if picture.instructions is not None:
            body["instructions"] = picture.instructions
        if picture.additional_instructions is not None:
            body["additional_instructions"] = picture.additional_instructions
        snapshot = Snapshot(
            turn=turn.number,
            view=self._token(scene.agent),
            session=session,
            open_turns=open_turns,
            entries=picture.entries,
            blank=picture.blank,
            answers=picture.answers,
            calls=picture.calls,
            has_instructions=picture.has_instructions,
            instructions=picture.instructions,
            additional_instructions=picture.additional_instructions,
            settings=body,
        )
        return snapshot, picture.images

    def ended(self, turn: int) -> None:
        """Its stream ended, failed or was closed."""
        if (known := self._turns.get(turn)) is not None:
            known.streaming = False

    def fates(self, ledger: Ledger) -> Fates:
        """What is known now; what is over and brought nothing that the thread holds is let go."""
        turns = self._looked_at()
        history: list[Entry] = []
        alive: set[int] = set()
        for token, session in self._living():
            alive.add(token)
            history.extend(self.picture(session.history).entries)
        held = {one.turn for one in ledger.held} | {run.turn for run in ledger.runs}
        for turn in turns:
            if turn.over and turn.number not in held:
                del self._turns[turn.number]
        return fates_of(
            history,
            thread_id=ledger.thread_id,
            over=(turn.number for turn in turns if turn.over),
            discarded=(turn.number for turn in turns if turn.discarded),
            told=(turn.number for turn in turns if turn.session in alive),
            sessions={turn.number: turn.session for turn in turns if turn.session is not None},
            bound=(one.item_id for one in ledger.held if one.item_id is not None),
        )

    def answers(self) -> Iterator[Answer]:
        """Tool outputs that sessions have, whether or not a turn carried them."""
        for _, session in self._living():
            yield from self.picture(session.history).answers

    def contexts(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The agents that are speaking now, and the items of their contexts in order."""
        for _, session in self._living():
            try:
                agent = session.current_agent
            except RuntimeError:  # not started, or closed
                continue
            token = self._token(agent)
            if token is not None:
                entries = self.picture(agent.chat_ctx).entries
                yield token, tuple(entry.item_id for entry in entries)

    def wait_for_a_tool(self, ledger: Ledger) -> bool:
        """A run waits for outputs, and the speech that called for them goes on."""
        going = {turn.number for turn in self._looked_at() if not turn.over}
        return any(run.state == "waiting" and run.turn in going for run in ledger.runs)

    def close(self) -> None:
        """Nobody is going to tell about turns that no speech stands for."""
        for turn in self._turns.values():
            turn.over = turn.over or turn.speech is None

    def _living(self) -> Iterator[tuple[int, AgentSession[Any]]]:
        for token, reference in list(self._sessions.items()):
            session = reference()
            if session is None:
                del self._sessions[token]
            else:
                yield token, session

    def _looked_at(self) -> list[Turn]:
        for turn in self._turns.values():
            turn.look()
        return list(self._turns.values())

    def _token(self, thing: object | None) -> int | None:
        """A number for an agent or session that is never given to another one."""
        if thing is None:
            return None
        token = self._tokens.get(thing)
        if token is None:
            token = self._tokens[thing] = next(self._numbers)
        return token
