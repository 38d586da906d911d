"""Counts and times of one server, kept as plain numbers: counting costs less than a microsecond.

Whoever wants them as Prometheus reads them asks ``routes.metrics``. Everything is counted in the
event loop, so nothing needs a lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Times:
    """How long something took, in buckets."""

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Upper bound and how many were not above it."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield str(bound), total


class Measurements:
    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by method and status
        self.runs_ended: Counter[str] = Counter()  # by status
        self.queue_seconds = Times()  # from asked for to in_progress
        self.first_token_seconds = Times()  # from asked for to the model's first piece
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.upstream_errors: Counter[str] = Counter()  # by code
        self.open_streams = 0
