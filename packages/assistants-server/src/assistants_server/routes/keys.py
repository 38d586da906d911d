"""Which project a key opens, without a query for every request.

Answers of the store are remembered for a few seconds, so a revoked key stops working that much
later at the latest, on every replica, and a first key is asked for as soon. Only keys that are
right are remembered: whoever tries wrong ones fills nothing.
"""

from __future__ import annotations

from collections import OrderedDict

from ..clock import Clock
from ..store import keys as store
from ..store.database import Database

DEFAULT_PROJECT = "default"

REMEMBERED_SECONDS = 5.0
_MOST_REMEMBERED = 10_000


class KeyRing:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._projects: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._in_use = False
        self._looked_at = float("-inf")

    async def in_use(self) -> bool:
        """Whether requests need a key. Once they do they always will: revoking gives nothing up."""
        now = self._clock.now()
        if not self._in_use and now - self._looked_at >= REMEMBERED_SECONDS:
            self._in_use = await self._database.read(store.any_exist)
            self._looked_at = now
        return self._in_use

    async def project_of(self, secret: str) -> str | None:
        """The project that the key opens; ``None`` for one that opens nothing."""
        now = self._clock.now()
        project, until = self._projects.get(secret, (None, 0.0))
        if project is not None and now < until:
            self._projects.move_to_end(secret)
            return project
        project = await self._database.read(store.project_of, secret)
        if project is None:
            self._projects.pop(secret, None)
            return None
        self._projects[secret] = (project, now + REMEMBERED_SECONDS)
        self._projects.move_to_end(secret)
        if len(self._projects) > _MOST_REMEMBERED:
            self._projects.popitem(last=False)
        return project
