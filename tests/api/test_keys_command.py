"""The commands for keys, model names and the schema, on a database of their own."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.api.test_command_line import outcome, served
from tests.live_server import BETA

from assistants_server.commands import options
from assistants_server.settings import Settings
from assistants_server.store import schema


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    return "--data", str(tmp_path / "data")


def test_a_key_is_made_listed_and_revoked(data: tuple[str, str]) -> None:
    outcome("migrate", *data)
    assert outcome("keys", "list", *data) == (0, "", "There are no keys.\n")
    status, secret, said = outcome("keys", "create", "my phone", "--project", "acme", *data)
    assert status == 0
    assert re.fullmatch(r"sk-\w{48}\n", secret), "the secret alone, so that scripts can take it"
    assert "for project acme" in said
    assert "from now on every request needs a key" in said
    _, _, again = outcome("keys", "create", "other", *data)
    assert "from now on" not in again
    status, listed, _ = outcome("keys", "list", *data)
    rows = [line.split("\t") for line in listed.splitlines()]
    assert [row[1:4] for row in rows] == [
        ["my phone", "acme", f"sk-…{secret[-5:-1]}"],
        ["other", "default", rows[1][3]],
    ]
    assert [row[5] for row in rows] == ["in use", "in use"]
    assert secret.strip() not in listed
    for _ in range(2):
        status, said, _ = outcome("keys", "revoke", rows[0][0], *data)
        assert (status, said.startswith(f"{rows[0][0]} (my phone) is revoked.")) == (0, True)
    _, listed, _ = outcome("keys", "list", *data)
    assert [line.split("\t")[5].split()[0] for line in listed.splitlines()] == ["revoked", "in"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["keys", "revoke", "key_x"],
            "There is no key 'key_x'; see: assistants-server keys list\n",
        ),
        (
            ["keys", "create", " "],
            "A key's name has 1 to 200 characters, all of them printable.\n",
        ),
        (
            ["keys", "create", "x", "--project", "a b"],
            "'a b' cannot name a project: 1 to 64 letters, digits, dots, dashes, underscores.\n",
        ),
        (
            ["models", "set", "x=y", "--project", "a b"],
            "'a b' cannot name a project: 1 to 64 letters, digits, dots, dashes, underscores.\n",
        ),
        (
            ["models", "set", "gpt-4"],
            "'gpt-4' is not NAME=TARGET, with names of 1 to 256 printable characters.\n",
        ),
        (
            ["models", "unset", "gpt-4"],
            "Project default replaces no name 'gpt-4'; see: assistants-server models list\n",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    data: tuple[str, str], arguments: list[str], sentence: str
) -> None:
    outcome("migrate", *data)
    assert outcome(*arguments, *data) == (1, "", sentence)


@pytest.mark.parametrize("command", [["keys", "create", "x"], ["migrate"]])
def test_a_database_that_does_not_open_is_one_sentence(command: list[str]) -> None:
    status, out, err = outcome(*command, "--data", __file__)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("Cannot open the database")


def test_the_place_of_the_data_may_come_from_the_environment(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome("keys", "create", "one", *data)
    monkeypatch.setenv("ASSISTANTS_DATA", data[1])
    assert "one" in outcome("keys", "list")[1]
    outcome("migrate", "--data", str(tmp_path / "other"))
    assert outcome("keys", "list", "--data", str(tmp_path / "other"))[1] == ""


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["serve", "--port", "0"],
        ["keys", "list"],
        ["models", "list"],
        ["prune", "--older-than", "1d"],
        ["export"],
        ["import", __file__],
    ],
)
def test_a_database_of_a_newer_version_is_one_sentence(
    data: tuple[str, str], command: list[str]
) -> None:
    outcome("migrate", *data)
    with closing(sqlite3.connect(Path(data[1]) / "assistants.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    status, out, err = outcome(*command, *data)
    assert (status, out, len(err.splitlines())) == (1, "", 1), err
    assert err.startswith("The database is at revision 9999, of a newer assistants-server")


def test_a_projects_model_names_are_set_listed_and_unset(data: tuple[str, str]) -> None:
    outcome("migrate", *data)
    assert outcome("models", "list", *data) == (0, "", "No project replaces a name.\n")
    acme = ("--project", "acme", *data)
    status, said, soon = outcome("models", "set", "gpt-4=org/qwen3:8b", "*=small", *acme)
    assert status == 0
    assert said == "gpt-4 is org/qwen3:8b in project acme.\n* is small in project acme.\n"
    assert soon == "Running servers follow within 5 seconds.\n"
    outcome("models", "set", "gpt-4=local", *data)
    listed = "acme\t*\tsmall\nacme\tgpt-4\torg/qwen3:8b\ndefault\tgpt-4\tlocal\n"
    assert outcome("models", "list", *data) == (0, listed, "")
    assert outcome("models", "unset", "gpt-4", "*", *acme)[:2] == (
        0,
        "Project acme does not replace gpt-4, * any more.\n",
    )
    assert outcome("models", "list", *data)[1] == "default\tgpt-4\tlocal\n"


@pytest.mark.parametrize(
    "url", ["postgresql://ana:secret@host/name", "postgresql://host/name?user=ana&password=secret"]
)
def test_the_place_that_is_shown_holds_no_password(url: str) -> None:
    assert options.place(Settings(database_url=url)).endswith("host/name")


def test_migrating_says_the_revision(data: tuple[str, str]) -> None:
    said = f"The database in {data[1]} is at revision {schema.HEAD}.\n"
    for _ in range(2):
        assert outcome("migrate", *data) == (0, said, "")


async def test_with_a_key_any_address_may_be_served(data: tuple[str, str]) -> None:
    # A command runs an event loop of its own.
    _, secret, _ = await asyncio.to_thread(outcome, "keys", "create", "one", *data)
    url = ("--upstream-url", "http://127.0.0.1:9/v1")
    async with served(Path(data[1]), "--host", "0.0.0.0", *url) as server:
        assert "http://0.0.0.0:" in server.greeting
        async with server.http() as http:
            assert (await http.get("/v1/threads")).status_code == 401
            key = {**BETA, "Authorization": f"Bearer {secret.strip()}"}
            assert (await http.get("/v1/threads", headers=key)).status_code == 200
