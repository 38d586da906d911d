"""Extension ``end_runs``: runs ended by the names that their client gave them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..domain.drafts import EndRun
from .parts import LARGEST_ARRAY, Closed, ObjectIds

RunKey = Annotated[str, Field(min_length=1, max_length=256)]


class EndRunBody(Closed):
    run_key: RunKey
    keep: ObjectIds | None = None

    def draft(self) -> EndRun:
        return EndRun(run_key=self.run_key, keep=self.keep)


EndRuns = Annotated[list[EndRunBody], Field(max_length=LARGEST_ARRAY)]
