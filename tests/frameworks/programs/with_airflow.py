"""Airflow's OpenAI provider: ``OpenAIHook``. Its connection names the server as its host.

python with_airflow.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import json
import os
import sys
import warnings

from airflow.providers.openai.hooks.openai import OpenAIHook

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"] = json.dumps(
    {"conn_type": "openai", "host": BASE_URL, "password": "any"}
)

hook = OpenAIHook("openai_default")
assistant = hook.create_assistant(
    model="gpt-4o", instructions="Answer in one sentence.", tools=[WEATHER]
)
thread = hook.create_thread()


def ask(text: str) -> str:
    hook.create_message(thread_id=thread.id, role="user", content=text)
    run = hook.create_run_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    if run.required_action is not None:
        outputs = []
        for call in run.required_action.submit_tool_outputs.tool_calls:
            called.append(json.loads(call.function.arguments)["city"])
            outputs.append({"tool_call_id": call.id, "output": "sunny"})
        hook.conn.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=thread.id, tool_outputs=outputs
        )
    return str(hook.get_messages(thread_id=thread.id)[0].content[0].text.value)


texts = (
    "My name is Ana.",
    "What is the weather in Lisbon?",
    "What is my name?",
    "And in Porto?",
    "Goodbye.",
)
replies = [ask(text) for text in texts]
print(json.dumps({"thread": thread.id, "replies": replies, "called": called}))
