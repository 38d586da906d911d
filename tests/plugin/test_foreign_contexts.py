"""Contexts that are not the conversation, asked of the same LLM in the middle of it: a judge, a
summary, answering-machine detection. They are answered, they wait for nobody and nobody for them,
and the caller's thread has no trace of them."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent, RunContext, RunResult, function_tool
from livekit.agents.llm import ChatContext
from livekit.agents.voice.amd.classifier import AMDCategory, _AMDClassifier
from tests.plugin.agents import RUN, SUBMIT, Caller, model_saw, said, settled, standard_by_night
from tests.upstream import Upstream, call, say, stall

SCRATCH = "POST threads/runs"
GONE = "DELETE threads/*"


async def threads(caller: Caller) -> list[str]:
    async with caller.server.http() as http:
        listed = (await http.get("/v1/threads", params={"limit": 100})).json()["data"]
    return [one["id"] for one in listed]


async def only_the_callers_thread_is_left(caller: Caller) -> None:
    await settled(lambda: caller.wire.requests.count(GONE) == caller.wire.requests.count(SCRATCH))
    await settled(lambda: not caller.llm._conversation._tasks)
    assert await threads(caller) == [caller.llm.thread_id]


@standard_by_night
async def test_livekits_judge(caller: Caller, upstream: Upstream) -> None:
    """It is answered by a tool call, which nobody answers."""
    async with caller.session() as session:
        result: RunResult[None] = await session.run(user_input="one")
        upstream.script(call("check_intent", {"success": True, "reason": "it repeats"}))
        message = result.expect.next_event().is_message(role="assistant")
        with caller.counted() as requests:
            await message.judge(caller.llm, intent="repeats what was said")
            await settled(lambda: GONE in caller.wire.requests)
        assert requests == [SCRATCH, GONE]
        with caller.counted() as requests:
            await session.run(user_input="two")
        assert requests.count(RUN) == 1
        assert await caller.thread() == said(session.history)
        assert model_saw(upstream.requests[-1]) == said(session.history)[:-1]
        await only_the_callers_thread_is_left(caller)


async def test_a_summary_of_the_conversation(caller: Caller, upstream: Upstream) -> None:
    """It replaces the turns it tells of, in the context and for the model."""
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        for text in ("one", "two", "three"):
            await session.run(user_input=text)
        before = await caller.thread()
        upstream.script(say("They counted."))
        context = agent.chat_ctx.copy()
        await context._summarize(caller.llm, keep_last_turns=1)
        assert await caller.thread() == before
        await agent.update_chat_ctx(context)
        await session.run(user_input="four")
        shown = said(agent.chat_ctx)[:-1]
        assert "They counted." in shown[0][1]
        if caller.extensions is None:
            assert model_saw(upstream.requests[-1])[-len(shown) :] == shown
        await only_the_callers_thread_is_left(caller)


@standard_by_night
async def test_answering_machine_detection_while_the_agent_answers(
    caller: Caller, upstream: Upstream
) -> None:
    """LiveKit's classifier, beside a turn: neither waits for the other to end."""
    hold = stall()
    verdicts: list[Any] = []
    async with caller.session() as session:
        await session.run(user_input="one")
        upstream.script(
            hold + call("save_prediction", {"label": "human"}),
        )
        classifier = _AMDClassifier(caller.llm)
        classifier.on("amd_prediction", verdicts.append)
        classifier.start_listening()
        classifier.push_text("hello this is Ben")
        classifier.on_end_of_turn()
        await hold.reached.wait()
        with caller.counted() as requests:
            await session.run(user_input="two")
        assert requests.count(RUN) == 1
        assert said(session.history)[-1] == ("assistant", "two")
        hold.release()
        await settled(lambda: bool(verdicts))
        await classifier.close()
        assert verdicts[0].category == AMDCategory.HUMAN
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)
        await only_the_callers_thread_is_left(caller)


@standard_by_night
async def test_a_question_asked_within_a_tool(caller: Caller, upstream: Upstream) -> None:
    class Curious(Agent):
        @function_tool
        async def look_up(self, context: RunContext[Any]) -> str:
            """Ask the model something else."""
            question = ChatContext.empty()
            question.add_message(role="user", content="what is the capital of France?")
            return (await caller.llm.chat(chat_ctx=question).collect()).text

    upstream.script(call("look_up"), say("Paris."), say("It is Paris."))
    async with caller.session(Curious(instructions="You are Ana.")) as session:
        with caller.counted() as requests:
            await session.run(user_input="what is it?")
        assert [one for one in requests if one in (RUN, SCRATCH, SUBMIT)] == [RUN, SCRATCH, SUBMIT]
        assert model_saw(upstream.requests[1]) == [("user", "what is the capital of France?")]
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)
        await only_the_callers_thread_is_left(caller)


@standard_by_night
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "closed early"])
async def test_a_reply_to_another_context(caller: Caller, upstream: Upstream, whole: bool) -> None:
    """``generate_reply(chat_ctx=…)``: its answer is said, so it is in the thread; its question is
    not."""
    hold = stall()
    async with caller.session() as session:
        await session.run(user_input="one")
        other = ChatContext.empty()
        other.add_message(role="user", content="tell a joke")
        upstream.script(say("A horse ", "walks in.") if whole else hold + say("never"))
        speech = session.generate_reply(chat_ctx=other)
        if not whole:
            await hold.reached.wait()
            speech.interrupt()
        await speech
        hold.release()
        await session.run(user_input="two")
        assert ("user", "tell a joke") not in await caller.thread()
        assert (("assistant", "A horse walks in.") in await caller.thread()) == whole
        assert await caller.thread() == said(session.history)
        await only_the_callers_thread_is_left(caller)
