"""How each move is played."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from livekit.agents.llm import ChatContext, ChatMessage, ImageContent
from livekit.agents.voice import SpeechHandle
from tests.plugin import moves
from tests.plugin.agents import Caller, speaking
from tests.plugin.clerks import Clerk, Survey
from tests.plugin.moves import Fault, Interrupt, Move, Turn
from tests.plugin.spoken import PICTURE, said, spoken_in
from tests.plugin.stage import Question, Stage
from tests.upstream import Stall, stall

from livekit import rtc

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class Performance(Stage):
    """Plays moves."""

    async def play(self, move: Move) -> None:
        play: Callable[[Any], Awaitable[None]] = getattr(self, f"_{type(move).__name__.lower()}")
        await play(move)

    async def settle(self) -> None:
        """A turn in which nothing happens: afterwards the thread must be right."""
        await self._turn(Turn())

    # turns --------------------------------------------------------------------------------------

    async def _turn(self, move: Turn) -> None:
        question = Question(turn=move, calls=move.tools)
        at = move.interrupt.at if move.interrupt is not None else ""
        hold = stall()
        if at == "thinking" or at.startswith("word"):
            question.hold = hold
            question.words_first = int(at.removeprefix("word")) if at != "thinking" else 0
        speech = self._begin(move, question)
        self.wire.arm(self._possible(move.fault))
        if move.interrupt is not None:
            await self._interrupt(speech, move.interrupt, hold)
        await speech
        await self.quiet()
        await self.wire.calm()
        hold.release()
        self._cut(speech, move)
        await self.deliver_late()
        if move == Turn():
            await self.check()

    def _cut(self, speech: SpeechHandle, move: Turn) -> None:
        """As voice pipelines do: of an interrupted reply the history has what was heard."""
        if self.agent.window and self.extensions is False:
            return  # nothing changes behind a short memory before sync()
        for item in speech.chat_items:
            if isinstance(item, ChatMessage) and item.role == "assistant" and item.interrupted:
                words = item.raw_text_content or ""
                if (
                    not self.gone and "says" not in move.tools
                ):  # or it stands behind and is sent again
                    self.written[item.id] = words
                heard = words.split()[0]
                item.content = [words[: words.index(heard) + len(heard)]]

    def _begin(self, move: Turn, question: Question) -> SpeechHandle:
        text = self.ask(question)
        images: dict[str, rtc.VideoFrame | str] = {
            "frame": rtc.VideoFrame(4, 4, rtc.VideoBufferType.RGBA, b"\x80" * 64),
            "data url": "data:image/png;base64," + base64.b64encode(PNG).decode(),
            "url": f"https://images.test/{text}.png",
        }
        content: list[Any] = [text]
        if move.question == "image only":
            content = [ImageContent(image=images["data url"])]
            self.questions[PICTURE] = question
        elif move.question in images:
            content.append(ImageContent(image=images[move.question]))
            self.questions[text + PICTURE] = question
        elif move.question != "text":
            content = [" \n" if move.question == "blanks" else ""]
        item = ChatMessage(role="user", content=content)
        if move.instructions:
            return self.session.generate_reply(user_input=item, instructions="Be brief.")
        return self.session.generate_reply(user_input=item)

    def _possible(self, fault: Fault | None) -> Fault | None:
        # Without the extensions nothing keeps a late request from taking effect.
        late = fault is not None and fault.kind == "late" and self.extensions is False
        return None if late else fault

    async def _interrupt(self, speech: SpeechHandle, how: Interrupt, hold: Stall) -> None:
        follow: list[SpeechHandle] = []

        async def happen() -> None:
            await ticks(how.ticks)
            speech.interrupt()
            if how.follow:
                follow.append(self.session.generate_reply(user_input=self.ask()))

        if how.at.startswith("thread.") or how.at == "done":
            self.wire.at_event = (how.at, happen)
            await speech
        elif how.at.startswith("on "):
            held_up = self.wire.hold_up(how.at)
            await first(held_up.reached.wait(), speech)
            await happen()
            held_up.release()
        elif how.at == "tool":
            agent = self.agent
            agent.working.clear()
            agent.finish.clear()
            await first(agent.working.wait(), speech)
            await happen()
            agent.finish.set()
        else:
            await first(hold.reached.wait(), speech)
            if how.at != "thinking":
                await first(speaking(self.session), speech)
            await happen()
        for one in follow:
            await one

    async def _prompted(self, move: moves.Prompted) -> None:
        await self.session.generate_reply(instructions="Say something.")

    async def _say(self, move: moves.Say) -> None:
        speech = self.session.say(self.word("s"))
        if move.interrupted:
            speech.interrupt()
        await speech

    async def _queued(self, move: moves.Queued) -> None:
        one = self.session.generate_reply(user_input=self.ask())
        two = self.session.generate_reply(user_input=self.ask())
        await one
        await two

    async def _meanwhile(self, move: moves.Meanwhile) -> None:
        agent = self.agent
        agent.working.clear()
        agent.finish.clear()
        speech = self.session.generate_reply(user_input=self.ask(Question(calls=("order",))))
        await first(agent.working.wait(), speech)
        await self.session.generate_reply(user_input=self.ask(), tool_choice="none")
        agent.finish.set()
        await speech

    async def _task(self, move: moves.Task) -> None:
        text = self.ask(Question(calls=("survey",)))
        speech = self.session.generate_reply(user_input=text)
        await first(self.agent.surveying.wait(), speech)
        task = self.session.current_agent
        if isinstance(task, Survey):
            await self.session.generate_reply(user_input=self.ask(Question(calls=("finish",))))
            await speech
            self.agent.inherited |= {item.id for item in task.chat_ctx.items}
        await speech

    async def _guess(self, move: moves.Guess) -> None:
        context = self.agent.chat_ctx.copy()
        hold = stall()
        question = Question() if move.whole else Question(hold=hold, words_first=1)
        if not move.probe:
            context.add_message(role="user", content=self.ask(question))
        elif not move.whole and (asked := [t for r, t in said(context) if r == "user"]):
            self.questions[asked[-1]] = question
        async with self.caller.llm.chat(chat_ctx=context, tools=self.tools) as stream:
            async for chunk in stream:
                if not move.whole and chunk.delta is not None:
                    break
        hold.release()

    async def _foreign(self, move: moves.Foreign) -> None:
        context = ChatContext.empty()
        if move.kind != "summary":
            context.add_message(role="system", content="Judge.")
        context.add_message(role="user", content=self.word("f"))
        options: dict[str, Any] = {}
        if move.kind == "detector":
            options = {"tools": self.tools, "tool_choice": "required"}
        await self.caller.llm.chat(chat_ctx=context, **options).collect()

    # contexts -----------------------------------------------------------------------------------

    async def _remove(self, move: moves.Remove) -> None:
        if not self.orderly:
            # Had no turn shown what stands before it, it would look like the victim of a window.
            await self.settle()
        context = self.agent.chat_ctx.copy()
        # What was another agent's turn is hidden by an agent that drops it, not deleted.
        spoken = [item for item in spoken_in(context) if item.id not in self.agent.inherited]
        # What stands first goes as out of a window, which is another move.
        # Out of sight of a short memory, nothing can be told to be gone.
        if len(spoken) > 1 and not self.agent.window:
            gone = spoken[1 + move.place % (len(spoken) - 1)]
            context.items.remove(gone)
            self.removed.add(gone.id)
            await self.agent.update_chat_ctx(context)
            # An agent's context is not the session's: only its next turn tells.
            await self.settle()

    async def _edit(self, move: moves.Edit) -> None:
        context = self.agent.chat_ctx.copy()
        # What is kept in full of an interrupted reply is not edited: it would be as if heard.
        full = self.interrupted == "full"
        spoken = [item for item in spoken_in(context) if not (full and item.interrupted)]
        # Without the extensions nothing changes behind a short memory before sync().
        if spoken and not (self.agent.window and self.extensions is False):
            item = spoken[move.place % len(spoken)]
            item.content = [self.word("e")]
            await self.agent.update_chat_ctx(context)
            if self.extensions is False:
                await self.settle()

    async def _insert(self, move: moves.Insert) -> None:
        context = self.agent.chat_ctx.copy()
        spoken = spoken_in(context)
        if len(spoken) > 1:
            behind = spoken[move.place % (len(spoken) - 1)]
            late = ChatMessage(
                role="assistant", content=[self.word("i")], created_at=behind.created_at
            )
            context.insert(late)
            self.written.clear()  # what stands behind it is sent again
            self.session.history.insert(late)
            await self.agent.update_chat_ctx(context)

    async def _truncate(self, move: moves.Truncate) -> None:
        self.orderly = False
        await self.agent.update_chat_ctx(self.agent.chat_ctx.copy().truncate(max_items=move.items))

    async def _window(self, move: moves.Window) -> None:
        self.orderly = self.orderly and not move.items
        self.agent.window = move.items

    async def _handoff(self, move: moves.Handoff) -> None:
        if self.extensions is False:
            await self.settle()  # a reply that was cut is not another agent's to mend, but sync()'s
        self.orderly = False
        other = next(one for one in self.agents if one is not self.agent)
        if move.history:
            known = self.agent.chat_ctx.copy(
                exclude_instructions=True, exclude_function_call=True, exclude_config_update=True
            )
            other = Clerk("Cyd", chat_ctx=known)
            self.agents = [self.agent, other]
        await other.takes_over(self.session)

    async def _instruct(self, move: moves.Instruct) -> None:
        await self.agent.update_instructions(f"You are {self.word('n')}.")

    # others -------------------------------------------------------------------------------------

    async def _elsewhere(self, move: moves.Elsewhere) -> None:
        text = self.word("x")
        await self._free()
        thread_id = self.caller.llm.thread_id
        if move.kind == "message":
            async with self.server.http() as http:
                body = {"role": "user", "content": text}
                answer = await http.post(f"/v1/threads/{thread_id}/messages", json=body)
            answer.raise_for_status()
            self.elsewhere.append(("user", text))
            return
        hold = stall()
        if move.kind == "busy":
            self.questions[text] = Question(hold=hold, words_first=1)
        context = ChatContext.empty()
        context.add_message(role="user", content=text)
        options = {"thread_id": thread_id}
        async with Caller(self.server, self.extensions, options=options) as other:
            stream = other.llm.chat(chat_ctx=context)
            if move.kind == "busy":
                await hold.reached.wait()
                self.wire.requests.clear()
                speech = self.session.generate_reply(user_input=self.ask())
                while not self.wire.requests:
                    await asyncio.sleep(0.001)
                hold.release()
            reply = await stream.collect()
            if move.kind == "busy":
                await speech
        self.elsewhere += [("user", text), ("assistant", reply.text)]

    async def _free(self) -> None:
        """A turn notices that the thread is gone, and ends a run that waits for outputs in vain."""
        if self.gone or not await self.runs_are_over():
            await self.settle()

    async def _second(self, move: moves.Second) -> None:
        beside: list[SpeechHandle] = []
        async with self.session_of(Clerk("Dee")) as session:
            text = self.ask()
            if move.beside:
                beside.append(self.session.generate_reply(user_input=self.ask()))
            await session.generate_reply(user_input=text)
            for one in beside:
                await one
            self.elsewhere += said(session.history)
        del session
        gc.collect(1)  # it is really gone, and cannot be asked any more

    async def _lost(self, move: moves.Lost) -> None:
        if move.noun == "thread":
            await self.delete_thread()
            await self._say(moves.Say())  # something to bring: how else would one notice?
            return
        async with self.server.http() as http:
            await http.delete(f"/v1/assistants/{self.caller.llm.assistant_id}")

    # ends ---------------------------------------------------------------------------------------

    async def _sync(self, move: moves.Sync) -> None:
        if self.gone:
            await self.settle()
        await self.sync()

    async def _attach(self, move: moves.Attach) -> None:
        if not self.attached:
            self.attached = True
            self.caller.llm.attach(self.session)

    async def _restart(self, move: moves.Restart) -> None:
        if move.how == "quiet":
            await self.settle()
        else:
            hold = stall()
            text = self.ask(Question(hold=hold, words_first=move.words))
            speech = self.session.generate_reply(user_input=text)
            await first(hold.reached.wait(), speech)
            self.wire.dead = move.how == "dies"
            hold.release()
        await self.session.aclose()
        if move.how != "dies" and not self.attached:
            await self.caller.llm.sync(self.session.history)
        await self.caller.llm.aclose()
        if move.how == "dies":
            while not await self.runs_are_over():
                await asyncio.sleep(0.001)
            self.past = await self.thread()
        else:
            thread = await self.thread()
            assert thread == self.committed(thread)
            self.past = thread
        self.removed, self.orderly = set(), True
        key = self.caller.llm._conversation._conduct.thread_key
        by_key = move.by == "key" and key is not None
        options = {"thread_key": key} if by_key else {"thread_id": self.caller.llm.thread_id}
        await self.close()
        await self.open(options)


async def first(event: Coroutine[Any, Any, Any], speech: SpeechHandle) -> None:
    """Until this happens, or the speech is over and it never will."""
    happening = asyncio.ensure_future(event)
    over = asyncio.ensure_future(speech.wait_for_playout())
    await asyncio.wait({happening, over}, return_when=asyncio.FIRST_COMPLETED)
    for task in (happening, over):
        task.cancel()
    await asyncio.wait({happening, over})


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
