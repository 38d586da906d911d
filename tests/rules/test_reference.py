"""The reference is complete: a new endpoint, event, error or status without its line fails here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from openai.types.beta import assistant_stream_event
from openai.types.beta.threads.run_create_params import RunCreateParamsNonStreaming
from scripts import endpoints_reference, lifecycle_diagram

from assistants_server import errors
from assistants_server.__main__ import cli
from assistants_server.domain.run_state import RUN_TRANSITIONS
from assistants_server.wire.runs import CreateRun

ROOT = Path(__file__).parents[2]
OPENAIS = get_type_hints(RunCreateParamsNonStreaming)
REFERENCE = ROOT / "docs/reference"
SERVER = ROOT / "packages/assistants-server/src/assistants_server"


def test_the_endpoints_page_is_up_to_date() -> None:
    assert endpoints_reference.PAGE.read_text() == endpoints_reference.page(), (
        "run: python scripts/endpoints_reference.py"
    )


def test_the_lifecycle_page_is_up_to_date() -> None:
    assert lifecycle_diagram.PAGE.read_text() == lifecycle_diagram.page(), (
        "run: python scripts/lifecycle_diagram.py"
    )


def test_every_extension_has_its_place_in_the_page() -> None:
    page = (REFERENCE / "extensions.md").read_text()
    known = set(CreateRun.model_fields) - set(OPENAIS)
    assert len(known) == 8
    assert {name for name in known if f"### `{name}`\n" not in page} == set()
    for more in ("`additional_message_ids`", "`GET /v1/threads`", "`Idempotency-Key`", "`content`"):
        assert more in page


def test_every_command_has_its_line() -> None:
    page = (REFERENCE / "commands.md").read_text()
    commands = set[str]()
    for name, command in subcommands(typer.main.get_command(cli)).items():
        commands |= {f"{name} {one}" for one in subcommands(command)} or {name}
    assert len(commands) > 10
    told = set(re.findall(r"^\| `assistants-server ([a-z-]+(?: [a-z]+)?)", page, re.MULTILINE))
    assert told == commands


def subcommands(command: Any) -> Mapping[str, Any]:
    """None of a command that is no group."""
    found: Mapping[str, Any] = getattr(command, "commands", {})
    return found


def test_every_event_that_the_official_sdk_knows_has_its_line() -> None:
    page = (REFERENCE / "events.md").read_text()
    known = set(re.findall(r'Literal\["([a-z_.]+)"\]', inspect.getsource(assistant_stream_event)))
    assert len(known) > 20
    assert {name for name in known if f"`{name}`" not in page} == set()
    assert {f"thread.run.{status}" for status in RUN_TRANSITIONS} <= known


CODES_OF_LIMITS = [
    "integer_above_max_value",
    "integer_below_min_value",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "string_above_max_length",
    "empty_string",
    "array_above_max_length",
    "empty_array",
    "object_above_max_properties",
    "property_name_above_max_length",
]


def test_every_code_that_an_answer_can_have_is_in_the_page_of_errors() -> None:
    page = (REFERENCE / "errors.md").read_text()
    sources = [*SERVER.glob("*.py"), *SERVER.glob("routes/*.py"), *SERVER.glob("wire/*.py")]
    text = "".join(path.read_text() for path in sources)
    codes = set(re.findall(r'code="([a-z_]+)"', text))
    assert len(codes) > 15
    assert {code for code in (*codes, *CODES_OF_LIMITS) if f"`{code}`" not in page} == set()


FACTORIES: Mapping[Callable[..., errors.ApiError], tuple[Any, ...]] = {
    errors.no_assistant: ("asst_X",),
    errors.no_thread: ("thread_X",),
    errors.no_message: ("msg_X",),
    errors.no_run: ("run_X",),
    errors.no_step: ("step_X",),
    errors.no_file: ("file-X",),
    errors.no_cursor: ("after", "x"),
    errors.thread_locked: ("thread_X", "run_Y"),
    errors.active_run: ("thread_X", "run_Y"),
    errors.outputs_not_accepted: ("in_progress",),
    errors.outputs_mismatch: (["call_A", "call_B"], ["call_A"]),
    errors.cannot_cancel: ("completed",),
    errors.cannot_update: ("in_progress",),
    errors.nothing_to_run_on: (),
    errors.run_key_exists: ("x",),
    errors.run_ended: ("x",),
    errors.message_to_edit_missing: ("msg_X", "edit_messages[0].id"),
    errors.message_in_progress: ("msg_X",),
    errors.idempotency_key_reused: ("x",),
    errors.too_many: ("open streams", 2000),
    errors.too_many_in_all: ("open streams", 4000),
}


def test_every_error_that_the_server_can_make_is_in_the_table() -> None:
    made: set[Callable[..., errors.ApiError]] = {
        function
        for _, function in inspect.getmembers(errors, inspect.isfunction)
        if function.__module__ == errors.__name__ and not function.__name__.startswith("_")
    }
    assert made == set(FACTORIES), "give the new error a line in the page and here"


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
def test_the_page_quotes_each_error_to_the_letter(
    factory: Callable[..., errors.ApiError],
) -> None:
    error = factory(*FACTORIES[factory])
    page = (REFERENCE / "errors.md").read_text()
    rows = [one.split("|") for one in page.splitlines() if f"| `{error.message}` |" in one]
    told = [[cell.strip() for cell in row] for row in rows]
    assert any(
        status == str(error.status)
        and (error.param or "–") in param
        and (error.code or "–") in code
        for _, _, status, _, param, code, _ in told
    ), f"no line for {error.status} {error.message}"
