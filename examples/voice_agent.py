"""The agent of ``terminal_agent.py`` in a LiveKit room. Only ears, mouth and caller are new.

    export LIVEKIT_URL=… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    python -m livekit.agents start examples/voice_agent.py

Speech recognition and speech come from LiveKit Inference, which those three variables pay for; any
LiveKit STT and TTS will do. Every caller finds the conversation of last time.
"""

from __future__ import annotations

from livekit.agents import AgentServer, AgentSession, JobContext

from examples.coffee_shop import INSTRUCTIONS, NAME, CoffeeShop
from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

server = AgentServer()


@server.rtc_session()
async def answer(ctx: JobContext) -> None:
    await ctx.connect()
    caller = await ctx.wait_for_participant()
    assistant = AssistantCreateOptions(name=NAME, instructions=INSTRUCTIONS, model="gpt-4o-mini")
    llm = AssistantLLM(
        assistant_opts=AssistantOptions(create_options=assistant),
        thread_key=f"caller:{caller.identity}",
    )
    ctx.add_shutdown_callback(llm.aclose)

    session: AgentSession[None] = AgentSession(
        stt="deepgram/nova-3",
        tts="cartesia/sonic-3",
        llm=llm,
        # A guess at the end of a turn would start a run that may be thrown away.
        turn_handling={"preemptive_generation": {"enabled": False}},
    )
    llm.attach(session)
    await session.start(CoffeeShop(chat_ctx=await llm.load_chat_ctx()), room=ctx.room)
    await session.generate_reply(instructions="Greet the caller; by name if you know it.")
