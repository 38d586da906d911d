"""Writes ``docs/design/run-lifecycle.md`` from the tables of a run's life; a test compares them.

python scripts/lifecycle_diagram.py            # write it
"""

from __future__ import annotations

from pathlib import Path

from assistants_server.domain.run_state import (
    ACTIVE,
    INCOMPLETE_REASONS,
    RUN_TRANSITIONS,
    STEP_ENDS,
    TERMINAL,
)

PAGE = Path(__file__).parents[1] / "docs/design/run-lifecycle.md"

HEAD = """\
# The life of a run

Drawn by `scripts/lifecycle_diagram.py` from the tables of `assistants_server/domain/run_state.py`,
which are the only place that says what is legal. Every change is a compare-and-set along them: a
change that the current status does not list has no effect, so a terminal run never changes again.

"""

CAUSES = """\

| cause | who brings it about |
|---|---|
| `start` | who makes (`store/run_creation.py`), resumes or takes over (`store/turn.py`) a run |
| `call_tools` | the model asked for functions of the client |
| `submit` | the client answered all pending calls (`store/tool_outputs.py`) |
| `complete` | the model is done |
| `bound` | a token bound or a content filter ended the answer |
| `fail` | the model or the server failed, or the process that worked on it died |
| `expire` | `expires_at` has passed: the sweeper, or the next look at the run |
| `cancel` | the client asked; work may still be going on (`store/run_cancellation.py`) |
| `stop` | the cancelled work has stopped |
| `end` | another request ends it in its own transaction (`end_runs`, `if_active: supersede`) |

A run in one of {active} locks its thread; the database holds a unique index over exactly these.

## What an ending does to what is open

Message, step and run are closed in one transaction (`store/run_endings.py`).

| cause | open step becomes | open message becomes |
|---|---|---|
"""


def page() -> str:
    text = HEAD + "```mermaid\nstateDiagram-v2\n    [*] --> queued\n"
    for status, row in RUN_TRANSITIONS.items():
        for cause, successor in row.items():
            text += f"    {status} --> {successor}: {cause}\n"
    for status in RUN_TRANSITIONS:
        if status in TERMINAL:
            text += f"    {status} --> [*]\n"
    text += "```\n"
    text += CAUSES.format(active=", ".join(f"`{one}`" for one in RUN_TRANSITIONS if one in ACTIVE))
    for cause, step in STEP_ENDS.items():
        reason = INCOMPLETE_REASONS.get(cause)
        message = "completed" if reason is None else f"incomplete (`{reason}`)"
        if cause == "submit":
            message = "(there is none)"
        text += f"| `{cause}` | {step} | {message} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
