"""The tables of a run's life."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistants_server.domain.run_state import (
    ACTIVE,
    INCOMPLETE_REASONS,
    RUN_TRANSITIONS,
    STEP_ENDS,
    TERMINAL,
    UPDATABLE,
    RunCause,
    RunStatus,
    run_after,
)

CAUSES = get_args(RunCause)
STATUSES = get_args(RunStatus)


def test_every_status_is_active_or_terminal_and_has_a_row() -> None:
    assert set(RUN_TRANSITIONS) == set(STATUSES)
    assert set(STATUSES) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_terminal_is_final(status: RunStatus) -> None:
    assert all(run_after(status, cause) is None for cause in CAUSES)


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_every_active_run_can_be_ended_at_once(status: RunStatus) -> None:
    assert run_after(status, "end") == "cancelled"


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_every_active_run_can_reach_an_end_without_its_client(status: RunStatus) -> None:
    ends = {run_after(status, cause) for cause in ("expire", "stop")}
    assert ends & TERMINAL


@given(st.lists(st.sampled_from(CAUSES)))
def test_no_order_of_causes_leaves_a_terminal_status(causes: list[RunCause]) -> None:
    status: RunStatus = "queued"
    for cause in causes:
        following = run_after(status, cause)
        assert following is None or status not in TERMINAL
        status = following or status


def test_every_cause_that_ends_a_run_closes_what_is_open() -> None:
    ending = {
        cause
        for row in RUN_TRANSITIONS.values()
        for cause, status in row.items()
        if status in TERMINAL
    }
    assert ending <= set(STEP_ENDS)
    assert ending - {"complete"} <= set(INCOMPLETE_REASONS)


def test_metadata_cannot_change_while_a_run_is_worked_on() -> None:
    assert UPDATABLE.isdisjoint({"queued", "in_progress", "cancelling"})
