"""Room for runs: how many each project has under way in this process, those being created included.

Each project has room of its own: a flood of one is refused and does not reach the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import errors


@dataclass(eq=False, slots=True)
class Place:
    """Of one run among its project's. ``asked``: when the run was asked for (``perf_counter``)."""

    project_id: str
    asked: float = field(default_factory=time.perf_counter)
    launched: bool = False


class Room:
    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()
        self._admitted: set[asyncio.Future[None]] = set()

    @contextlib.contextmanager
    def admitted(self, project_id: str) -> Iterator[Place]:
        """A place for a run while it is being created; the run keeps it once it is launched.

        Raises:
            TooManyRequests: the project has as many runs as it may.
        """
        if self._taken[project_id] >= self._most:
            raise errors.too_many_runs(self._most)
        self._taken[project_id] += 1
        place, over = Place(project_id), asyncio.get_running_loop().create_future()
        self._admitted.add(over)
        try:
            yield place
        finally:
            if not place.launched:
                self.leave(place)
            self._admitted.discard(over)
            over.set_result(None)

    def launched(self, place: Place | None, project_id: str) -> Place:
        """The place of a run that is executed from now on; one taken over has none yet."""
        if place is None:
            self._taken[project_id] += 1
            place = Place(project_id)
        place.launched = True
        return place

    def leave(self, place: Place) -> None:
        self._taken[place.project_id] -= 1
        if not self._taken[place.project_id]:
            del self._taken[place.project_id]

    async def created(self, *, timeout: float) -> None:
        """Return when what is being created now is launched or refused, or the time is over."""
        if self._admitted:
            await asyncio.wait(self._admitted, timeout=timeout)
