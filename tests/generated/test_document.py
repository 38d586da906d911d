"""Schemathesis, a stranger with its own ideas, reads the server's document and tries it out.

Never a 5xx, and always what the document says: an object of its schema, or the error envelope. The
generator beside this one knows about states, on SQLite; this one knows how to break a schema, and
asks a server on PostgreSQL, which refuses text that SQLite takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks
from tests.databases import postgres_server, postgres_url
from tests.generated.requests import NAMED, Ref
from tests.generated.world import LONG, World

from assistants_server.routes.openapi import document
from assistants_server.routes.table import ENDPOINTS

__all__ = ["postgres_server", "postgres_url"]

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]

# A configuration of its own: none of whoever runs the tests is looked for.
DOCUMENT = schemathesis.openapi.from_dict(document(ENDPOINTS), config=SchemathesisConfig())
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations() if isinstance(found, Ok)]


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> Iterator[World]:
    made = World(tmp_path, postgres_url)
    made.open()
    yield made
    made.close()


@LONG
@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_every_answer_is_what_the_document_says(
    world: World, mode: schemathesis.GenerationMode
) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(OPERATIONS))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if data.draw(st.booleans()):
            case.path_parameters = {**case.path_parameters, **known(world, case, data)}
        if isinstance(case.body, dict) and case.body.get("if_active") == "queue":
            case.body["if_active"] = "supersede"  # nobody here would end the run it waits for

        async def exchange() -> Any:
            await world.tidy()
            answer = await asyncio.to_thread(case.call, base_url=world.server.origin)
            await world.rest()
            return answer

        case.validate_response(world.do(exchange()), checks=CHECKS)
        world.server.traffic.check()

    ask()


def known(world: World, case: schemathesis.Case[Any], data: st.DataObject) -> dict[str, str]:
    """Ids of what is there, for the path."""
    return {
        name: str(world.resolved(Ref(NAMED[name], data.draw(st.integers(0, 20)))))
        for name in case.path_parameters
        if name in NAMED
    }
