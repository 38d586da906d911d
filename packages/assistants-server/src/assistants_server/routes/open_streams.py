"""The streams that are open, counted for each project: one that floods is refused, others are not.

A stream outlives its run while its client reads slowly, so a bound on runs does not bound streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .. import errors
from ..measurements import Measurements


class OpenStreams:
    def __init__(self, most: int, measurements: Measurements) -> None:
        self._most = most
        self._measured = measurements
        self._open: Counter[str] = Counter()

    @contextmanager
    def admitted(self, project: str) -> Iterator[None]:
        """Room for one stream, from before its run is created until its last byte.

        Raises:
            TooManyRequests: the project has as many as it may.
        """
        if self._open[project] >= self._most:
            raise errors.too_many_streams(self._most)
        self._open[project] += 1
        self._measured.open_streams += 1
        try:
            yield
        finally:
            self._measured.open_streams -= 1
            self._open[project] -= 1
            if not self._open[project]:
                del self._open[project]
