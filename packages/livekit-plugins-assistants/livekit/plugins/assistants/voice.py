"""What LiveKit's context variables tell about a call of ``chat()``.

Their names are private to livekit-agents, so this is the only module that knows them, and all of
it works when they are gone: every answer is then ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from livekit.agents import Agent, AgentSession

try:
    from livekit.agents.voice.agent_activity import (
        _AgentActivityContextVar,
        _SpeechHandleContextVar,
    )

    _KNOWN = True
except ImportError:  # a later livekit-agents may rename them
    _KNOWN = False


class Speech(Protocol):
    """The part of ``SpeechHandle`` that is used."""

    @property
    def scheduled(self) -> bool: ...
    @property
    def interrupted(self) -> bool: ...
    def done(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """Whose turn a call of ``chat()`` is."""

    session: AgentSession[Any] | None = None
    agent: Agent | None = None
    speech: Speech | None = None


def current_scene() -> Scene:
    if not _KNOWN:
        return Scene()
    activity = _AgentActivityContextVar.get(None)
    return Scene(
        session=activity.session if activity is not None else None,
        agent=activity.agent if activity is not None else None,
        speech=_SpeechHandleContextVar.get(None),
    )
