"""The official OpenAI SDK against ``assistants-server serve``: a thread, a streamed run, a tool.

    assistants-server serve --local      # in another terminal
    python -m examples.sdk_client

Nothing but ``base_url`` differs from a program written for OpenAI.
"""

from __future__ import annotations

import os
import warnings
from datetime import datetime

import openai
from openai import AssistantEventHandler
from openai.types.shared_params import FunctionDefinition

# The SDK says so on every call; here the API is alive.
warnings.filterwarnings("ignore", category=DeprecationWarning)

BASE_URL = os.environ.get("ASSISTANTS_BASE_URL", "http://127.0.0.1:8400/v1")
MODEL = os.environ.get("MODEL", "gpt-4o-mini")

GET_TIME: FunctionDefinition = {
    "name": "get_time",
    "description": "The time now. Use it when the user asks what time it is.",
    "parameters": {"type": "object", "properties": {}, "required": []},
}


def main() -> None:
    client = openai.OpenAI(base_url=BASE_URL, api_key=os.environ.get("ASSISTANTS_KEY", "any"))
    assistant = client.beta.assistants.create(
        name="Clock",
        instructions="Answer in one short sentence.",
        model=MODEL,
        tools=[{"type": "function", "function": GET_TIME}],
    )
    now = datetime.now().astimezone().strftime("%H:%M")
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "What time is it?"}], metadata={"caller": "Ana"}
    )
    print("thread", thread.id)
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, tool_choice="required"
    ) as stream:
        show(stream)
        run = stream.get_final_run()
    if run.required_action is not None:
        calls = run.required_action.submit_tool_outputs.tool_calls
        for call in calls:
            print(f"{call.function.name}({call.function.arguments}) -> {now}")
        with client.beta.threads.runs.submit_tool_outputs_stream(
            run_id=run.id,
            thread_id=thread.id,
            tool_outputs=[{"tool_call_id": call.id, "output": now} for call in calls],
        ) as stream:
            show(stream)
            run = stream.get_final_run()
    print("run", run.status, f"{run.usage.total_tokens} tokens" if run.usage else "")
    for message in client.beta.threads.messages.list(thread.id, order="asc"):
        print(message.role, "|", "".join(b.text.value for b in message.content if b.type == "text"))


def show(stream: AssistantEventHandler) -> None:
    """Print the text as it arrives."""
    for text in stream.text_deltas:
        print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
