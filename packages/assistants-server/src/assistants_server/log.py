"""What the server says about itself: one line an event, readable in a terminal, JSON elsewhere.

Every line that belongs to a request carries its id, also the lines of the run that it started
(tasks inherit the context), which carry the run's id too. Text of users and models never gets
here: exceptions are logged by their kind and place in the code, never with values.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.text import Text

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
run_id: ContextVar[str | None] = ContextVar("run_id", default=None)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send the server's own log lines to ``stream`` (standard error)."""
    root = logging.getLogger()
    root.addHandler(handler(sys.stderr if stream is None else stream))
    root.setLevel(logging.WARNING)
    logging.getLogger("assistants_server").setLevel(level.upper())


def handler(stream: TextIO) -> logging.Handler:
    """Words where somebody reads along, JSON everywhere else."""
    made: logging.Handler = _Terminal(stream) if stream.isatty() else _lines(stream)
    made.addFilter(_with_ids)
    return made


def _with_ids(record: logging.LogRecord) -> bool:
    for name, current in (("request_id", request_id.get()), ("run_id", run_id.get())):
        if current is not None and not hasattr(record, name):
            setattr(record, name, current)
    return True


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as ``extra``, and where an exception came from."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = record.exc_info[0].__name__
        fields["at"] = _places(record)
    return fields


def _places(record: logging.LogRecord) -> list[str]:
    """File, line and function of each frame: an exception's own text may quote a conversation."""
    assert record.exc_info
    places = []
    trace = record.exc_info[2]
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        return orjson.dumps(line, default=str).decode()


def _lines(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json())
    return handler


class _Terminal(logging.Handler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._console = Console(file=stream, highlight=False, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
            line = Text(when + " ", style="dim")
            line.append(record.getMessage(), style=_STYLES.get(record.levelname, ""))
            fields = _fields(record)
            places = fields.pop("at", [])
            for key, value in fields.items():
                line.append(f"  {key}={value}", style="dim")
            for place in places:
                line.append(f"\n    {place}", style="dim")
            self._console.print(line)
        except Exception:
            self.handleError(record)
