"""Writes ``docs/reference/settings.md`` from ``Settings``; a test fails when the two differ.

python scripts/settings_reference.py            # write it
"""

from __future__ import annotations

from pathlib import Path

from assistants_server.settings import Settings

PAGE = Path(__file__).parents[1] / "docs/reference/settings.md"

HEAD = """\
# Settings

Written by `scripts/settings_reference.py` from `assistants_server/settings.py`.

Every setting is an environment variable. `assistants-server serve --help` shows which are options
too; an option wins over the variable. The embedded server reads the same variables; in Python,
give them by name: `Settings(port=0)`.

| variable | default | what it does |
|---|---|---|
"""


def page() -> str:
    return HEAD + "".join(_row(name) for name in Settings.model_fields)


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    if name == "data":
        default = "your user data folder"
    elif field.default_factory is not None:
        default = "`{}`"
    elif field.default is None:
        default = "unset"
    elif isinstance(field.default, bool):
        default = f"`{str(field.default).lower()}`"
    else:
        default = f"`{field.default}`"
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `ASSISTANTS_{name.upper()}` | {default} | {meaning} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
