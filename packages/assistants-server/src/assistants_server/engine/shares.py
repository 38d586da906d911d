"""How much of something each project has, where one process has only so much for all of them.

Each project has a bound of its own, and none may have more than is left for the others: one that
takes all it can leaves as much again, and several that grow together stop when each has as much as
is left. A flood is refused before it reaches the others, and nothing is kept empty for a fixed
number of projects that may never come.
"""

from __future__ import annotations

from collections import Counter

from .. import errors


class Shares:
    def __init__(self, what: str, *, most: int, total: int) -> None:
        """``most`` for a project, ``total`` for all; ``what`` is their name in refusals."""
        self._what = what
        self._most = most
        self._total = total
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, project_id: str) -> None:
        """One more.

        Raises:
            TooManyRequests: the project has as many as it may.
        """
        taken = self._taken[project_id]
        if taken >= self._most:
            raise errors.too_many(self._what, self._most)
        if taken >= self._total - self._all:
            raise errors.too_many_in_all(self._what, self._total)
        self.add(project_id)

    def add(self, project_id: str) -> None:
        """One more that is there already, whether there is room for it or not."""
        self._taken[project_id] += 1
        self._all += 1

    def give_back(self, project_id: str) -> None:
        self._all -= 1
        self._taken[project_id] -= 1
        if not self._taken[project_id]:
            del self._taken[project_id]
