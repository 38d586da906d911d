"""The streams that are open: each takes a place of its project's, and gives it back when it ends.

A stream outlives its run while its client reads slowly, so a bound on runs does not bound streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.shares import Shares
from ..measurements import Measurements


class OpenStreams:
    def __init__(self, measurements: Measurements, *, most: int, total: int) -> None:
        self._shares = Shares("open streams", most=most, total=total)
        self._measured = measurements

    @contextmanager
    def admitted(self, project: str) -> Iterator[None]:
        """Room for one stream, from before its run is created until its last byte.

        Raises:
            TooManyRequests: the project has as many as it may.
        """
        self._shares.take(project)
        self._measured.open_streams += 1
        try:
            yield
        finally:
            self._measured.open_streams -= 1
            self._shares.give_back(project)
