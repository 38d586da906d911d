"""Log lines: JSON for machines, words for a terminal, and never what an exception quotes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from assistants_server import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root, ours = logging.getLogger(), logging.getLogger("assistants_server")
    before = list(root.handlers), root.level, ours.level
    yield logging.getLogger("assistants_server.test")
    root.handlers, root.level, ours.level = before


def fail(logger: logging.Logger) -> None:
    try:
        raise ValueError("the caller's own words")
    except ValueError:
        logger.exception("request failed")


def test_a_line_is_json_where_nobody_watches(logger: logging.Logger) -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream)
    tokens = log.request_id.set("req_1"), log.run_id.set("run_1")
    try:
        logger.info("GET %s", "/v1/threads", extra={"ms": 3})
    finally:
        log.request_id.reset(tokens[0])
        log.run_id.reset(tokens[1])
    logger.debug("not asked for")
    (line,) = stream.getvalue().splitlines()
    shown = orjson.loads(line)
    assert shown.pop("time").endswith("+00:00")
    assert shown == {
        "level": "info",
        "logger": "assistants_server.test",
        "message": "GET /v1/threads",
        "ms": 3,
        "request_id": "req_1",
        "run_id": "run_1",
    }


def test_a_line_is_readable_in_a_terminal(logger: logging.Logger) -> None:
    stream = Terminal()
    log.configure("info", stream=stream)
    logger.info("GET [bold]%s", "/v1/threads", extra={"ms": 3})
    assert "GET [bold]/v1/threads" in stream.getvalue(), "no markup is read from a line"
    assert "ms=3" in stream.getvalue()
    assert "request_id" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_exception_is_told_by_kind_and_place_alone(
    logger: logging.Logger, stream: io.StringIO
) -> None:
    log.configure("info", stream=stream)
    fail(logger)
    shown = stream.getvalue()
    assert "request failed" in shown
    assert "ValueError" in shown
    assert "test_log.py" in shown
    assert "own words" not in shown
