"""Room for the runs of this process: each takes a place, from its creation to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .shares import Shares


@dataclass(eq=False, slots=True)
class Place:
    """Of one run among its project's. ``asked``: when the run was asked for (``perf_counter``)."""

    project_id: str
    asked: float = field(default_factory=time.perf_counter)
    launched: bool = False


class Room:
    def __init__(self, *, most: int, total: int) -> None:
        self._shares = Shares("runs at once", most=most, total=total)
        self._admitted: set[asyncio.Future[None]] = set()

    @contextlib.contextmanager
    def admitted(self, project_id: str) -> Iterator[Place]:
        """A place for a run while it is being created; the run keeps it once it is launched.

        Raises:
            TooManyRequests: the project has as many runs as it may.
        """
        self._shares.take(project_id)
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
            self._shares.add(project_id)
            place = Place(project_id)
        place.launched = True
        return place

    def leave(self, place: Place) -> None:
        self._shares.give_back(place.project_id)

    async def created(self, *, timeout: float) -> None:
        """Return when what is being created now is launched or refused, or the time is over."""
        if self._admitted:
            await asyncio.wait(self._admitted, timeout=timeout)
