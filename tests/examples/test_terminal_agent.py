"""The terminal agent from the outside: it remembers, it can be interrupted, it fails politely."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from examples.terminal.models import NoModel, choose_model
from tests.examples.terminal import Outcome, piped, piped_process, terminal
from tests.upstream import Answer, Upstream, call, fail, say, stall


@pytest_asyncio.fixture
async def model() -> AsyncIterator[Upstream]:
    async with Upstream(models=["gpt-4o-mini"]) as server:
        yield server


@pytest.fixture(autouse=True)
def chosen_model(model: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)


def words(message: Any) -> tuple[str, str]:
    content = message["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return message["role"], text


def assert_polite(outcome: Outcome, *, says: str) -> None:
    assert outcome.status == 1
    assert "Traceback" not in outcome.output + outcome.errors
    assert says in outcome.output + outcome.errors


async def test_it_talks_and_goes_on_in_another_process(model: Upstream) -> None:
    model.script(say("Hello ", "Ana."), say("You are Ana."), say("Still Ana."))
    first = await piped_process("Hello, my name is Ana.\nWhat is my name?\n")
    assert first.status == 0, first.errors
    assert first.errors == ""
    assert "agent Hello Ana.\n" in first.output
    assert "agent You are Ana.\n" in first.output
    assert first.output.endswith(f"--thread {first.thread}\n")

    again = await piped_process("And now?\n", "--thread", first.thread)
    assert again.status == 0, again.errors
    assert "  you Hello, my name is Ana.\nagent Hello Ana.\n" in again.output
    assert again.thread == first.thread
    told = [words(message) for message in model.requests[-1].messages]
    assert told[0][0] == "system"
    assert told[1:] == [
        ("user", "Hello, my name is Ana."),
        ("assistant", "Hello Ana."),
        ("user", "What is my name?"),
        ("assistant", "You are Ana."),
        ("user", "And now?"),
    ]


async def test_a_caller_is_recognised(model: Upstream) -> None:
    model.script(say("Hello."), say("Hello again."))
    first = await piped("I am here.\n", "--caller", "Ana B")
    again = await piped("Me again.\n", "--caller", "Ana B")
    assert (first.status, again.status) == (0, 0), first.errors + again.errors
    assert again.thread == first.thread
    assert "--caller 'Ana B'" in again.output


async def test_how_to_go_on_names_the_place_of_the_data_and_the_model(
    model: Upstream, tmp_path: Path
) -> None:
    model.script(say("Hello."), say("Hello again."))
    elsewhere = ["--model", "gpt-4o", "--data", str(tmp_path / "my data")]
    first = await piped_process("I am here.\n", *elsewhere)
    assert first.status == 0, first.errors
    words = shlex.split(first.output.partition("Go on with: python -m examples.terminal_agent ")[2])
    assert words == ["--thread", first.thread, *elsewhere]
    again = await piped_process("Me again.\n", *words)
    assert (again.status, again.thread) == (0, first.thread), again.errors


async def test_tools_and_cost_are_shown(model: Upstream) -> None:
    order = call("place_order", {"item": "tea", "quantity": 2})
    model.script(
        (say("One moment.") + call("get_time") + order).usage(50, 5),
        say("Done.").usage(70, 2),
    )
    outcome = await piped("The time, and two teas, please.\n")
    assert outcome.status == 0, outcome.errors
    assert "get_time() -> " in outcome.output
    assert "place_order(item='tea', quantity=2) -> Order 101: 2 x tea, ready" in outcome.output
    assert "agent Done.\n" in outcome.output
    assert "first token " in outcome.output
    assert "120 tokens read, 7 written" in outcome.output


async def test_ctrl_c_stops_the_reply_and_the_thread_keeps_what_was_printed(
    model: Upstream,
) -> None:
    model.script(say("One, ", "two, ", stall(), "three."), say("You heard two."))
    async with terminal() as (window, status):
        await window.shows("you ")
        window.type("Count!\n")
        await window.shows("agent One, two, ")
        window.type("\x03")
        await model.disconnected()
        await window.shows("(interrupted")
        await window.shows("you ")
        window.type("What did I hear?\n")
        await window.shows("agent You heard two.")
        await window.shows("you ")
        window.type("\x03")
        assert await status == 0
    assert "three" not in window.shown
    told = [words(message) for message in model.requests[-1].messages]
    assert told[1:] == [
        ("user", "Count!"),
        ("assistant", "One, two, "),
        ("user", "What did I hear?"),
    ]


@pytest.mark.parametrize("keys", ["/quit\n", "\x04", "\x03"])
async def test_leaving_says_how_to_go_on(model: Upstream, keys: str) -> None:
    model.script(say("Hello."))
    async with terminal() as (window, status):
        await window.shows("you ")
        window.type("Hi\n")
        await window.shows("agent Hello.")
        await window.shows("you ")
        window.type(keys)
        assert await status == 0
    assert "Go on with: " in window.shown


async def test_a_failed_turn_does_not_end_a_conversation_on_a_terminal(model: Upstream) -> None:
    answers = [fail(400)]  # however often it is asked
    model.default = lambda body: answers[-1]
    async with terminal() as (window, status):
        await window.shows("you ")
        window.type("Hi\n")
        await window.shows("status 400")
        await window.shows("you ")
        answers.append(say("Better."))
        window.type("And now?\n")
        await window.shows("agent Better.")
        await window.shows("you ")
        window.type("/quit\n")
        assert await status == 0


async def test_a_termination_in_mid_reply_ends_it_cleanly(model: Upstream) -> None:
    model.script(say("One, ", stall()))
    async with terminal() as (window, status):
        await window.shows("you ")
        window.type("Count!\n")
        await window.shows("One, ")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await status == 0


async def test_two_on_one_thread_take_turns(model: Upstream) -> None:
    hold = stall()
    model.script(say("Hello."), say("One", hold, " more."), say("Your turn."))
    first = await piped("Hi\n")
    slow = asyncio.ensure_future(piped("Mine\n", "--thread", first.thread))
    await hold.reached.wait()
    other = asyncio.ensure_future(piped("And mine\n", "--thread", first.thread))
    hold.release()
    outcomes = await asyncio.gather(slow, other)
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    assert "agent One more." in outcomes[0].output
    assert "agent Your turn." in outcomes[1].output


async def test_an_unknown_thread_is_a_sentence() -> None:
    assert_polite(await piped("Hi\n", "--thread", "thread_nope"), says="thread_nope")


async def test_a_model_that_is_down_is_a_sentence_and_the_thread_is_intact(
    model: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script(say("Hello."), say("You said hi."))
    first = await piped("Hi\n")
    with socket.socket() as free, monkeypatch.context() as down:
        free.bind(("127.0.0.1", 0))
        down.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        outcome = await piped("Anyone?\n", "--model", "gpt-4o-mini", "--thread", first.thread)
    assert_polite(outcome, says="127.0.0.1")
    again = await piped("What did I say?\n", "--thread", first.thread)
    assert again.status == 0, again.errors
    assert "  you Hi\nagent Hello.\n" in again.output


async def test_a_wrong_key_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(body: Any) -> Answer:
        return fail(401, message="Incorrect API key provided: sk-wrong.")

    async with Upstream(default=refuse, models=["gpt-4o-mini"]) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
        assert_polite(await piped("Hi\n"), says="key")


async def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    outcome = await piped_process("Hi\n", "--data", str(tmp_path / "taken"))
    assert_polite(outcome, says=str(tmp_path / "taken"))


async def test_a_setting_that_cannot_be_is_a_sentence(
    model: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANTS_PORT", "many")
    assert_polite(await piped("Hi\n"), says="ASSISTANTS_PORT: ")


async def test_an_endpoint_with_several_models_asks_to_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Upstream(models=["small", "large"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        outcome = await piped("Hi\n")
    assert_polite(outcome, says="--model")
    assert "small, large" in outcome.errors


async def test_an_endpoint_that_is_down_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert_polite(await piped("Hi\n"), says="http://127.0.0.1:9/v1 does not answer")


async def test_without_any_model_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)  # as if it were not installed
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(NoModel, match=r"(?s)OPENAI_API_KEY.*make demo") as raised:
        await choose_model(None, None)
    assert "local model" in str(raised.value)


async def test_a_missing_system_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setattr("examples.terminal.models.importlib.import_module", refuse)
    with pytest.raises(NoModel, match=r"libgomp\.so\.1.*apt-get install libgomp1"):
        await choose_model(None, None)


async def test_a_key_chooses_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    model = await choose_model(None, None)
    assert (model.name, model.shown) == ("gpt-4o-mini", "gpt-4o-mini at OpenAI")
