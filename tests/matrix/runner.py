"""Plays the table of scenarios with the official Python SDK, whichever version is installed.

    OPENAI_API_KEY=... python runner.py BASE_URL < scenarios.json > transcripts.json

Nothing but ``openai`` and the standard library: it runs in environments of its own.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import openai
from openai import AssistantEventHandler

RESOURCES = {
    "assistants": "beta.assistants",
    "threads": "beta.threads",
    "messages": "beta.threads.messages",
    "runs": "beta.threads.runs",
    "steps": "beta.threads.runs.steps",
    "files": "files",
    "models": "models",
}
CALLBACKS = (
    "run_step_created",
    "run_step_delta",
    "run_step_done",
    "message_created",
    "message_delta",
    "message_done",
    "text_created",
    "text_delta",
    "text_done",
    "tool_call_created",
    "tool_call_delta",
    "tool_call_done",
    "end",
)


class Player:
    def __init__(self, client: Any) -> None:
        self.client = client
        self.kept: dict[str, Any] = {}

    def play(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.kept = {}
        return [self.step(step) for step in steps]

    def step(self, step: dict[str, Any]) -> dict[str, Any]:
        try:
            record, result = self.do(step)
        except openai.APIStatusError as error:
            return {"error": told(error)}
        except Exception as error:
            return {"crash": f"{type(error).__name__}: {error}"}
        if "keep" in step:
            self.kept[step["keep"]] = result
        return record

    def do(self, step: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        noun, verb = step["do"].split(".")
        resource = self.client
        if "key" in step:
            resource = resource.with_options(api_key=step["key"])
        for name in RESOURCES[noun].split("."):
            resource = getattr(resource, name)
        method = getattr(resource, verb)
        arguments = self.filled({**step.get("ids", {}), **step.get("body", {})})
        if "poll_ms" in step:
            arguments["poll_interval_ms"] = step["poll_ms"]
        if "file" in step:
            arguments["file"] = (step["file"]["name"], step["file"]["content"].encode())
        if verb.endswith("stream"):
            return self.stream(method, arguments, step)
        if step.get("streamed"):
            events = list(method(**arguments, stream=True))
            return {"events": [event.event for event in events]}, events[-1].data.to_dict()
        result = method(**arguments)
        if verb == "content":
            return {"text": result.text}, None
        if verb == "list":
            items = [item.to_dict() for item in result]
            return {"items": [shown(item, step) for item in items]}, items
        return {"value": shown(result.to_dict(), step)}, result.to_dict()

    def stream(
        self, method: Any, arguments: dict[str, Any], step: dict[str, Any]
    ) -> tuple[dict[str, Any], Any]:
        handler: Any = handler_class(self.client, step.get("cancel_at"))()
        with method(**arguments, event_handler=handler) as stream:
            stream.until_done()
            final = stream.get_final_run().to_dict()
        record = {
            "events": handler.events,
            "callbacks": handler.callbacks,
            "text": handler.text,
            "value": shown(final, step),
        }
        return record, final

    def filled(self, value: Any) -> Any:
        """``$name.path`` becomes what was kept under that name."""
        if isinstance(value, str) and value.startswith("$"):
            name, _, path = value[1:].partition(".")
            return at(self.kept[name], path)
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value


def handler_class(client: Any, cancel_at: str | None) -> type[AssistantEventHandler]:
    """A handler that writes down what it is called with; it may cancel at one event."""

    class Handler(AssistantEventHandler):
        def __init__(self) -> None:
            super().__init__()
            self.events: list[str] = []
            self.callbacks: list[str] = []
            self.text = ""

        def on_event(self, event: Any) -> None:
            self.events.append(event.event)
            if event.event == cancel_at and self.current_run is not None:
                run = self.current_run
                client.beta.threads.runs.cancel(run_id=run.id, thread_id=run.thread_id)

    def callback(name: str) -> Any:
        def called(self: Any, *values: Any) -> None:
            self.callbacks.append(name)
            if name == "text_delta":
                self.text += values[0].value

        return called

    for name in CALLBACKS:
        setattr(Handler, f"on_{name}", callback(name))
    return Handler


def told(error: openai.APIStatusError) -> dict[str, Any]:
    body: Any = error.body
    return {
        "class": type(error).__name__,
        "status": error.status_code,
        "message": body["message"],
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "has_request_id": bool(error.request_id),
    }


def shown(value: Any, step: dict[str, Any]) -> dict[str, Any]:
    return {path: at(value, path) for path in step.get("show", [])}


def at(value: Any, path: str) -> Any:
    """``content.0.text.value``; what is not there is ``<absent>``."""
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)] if int(key) < len(value) else "<absent>"
        else:
            value = value.get(key, "<absent>") if isinstance(value, dict) else "<absent>"
    return value


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    player = Player(openai.OpenAI(base_url=sys.argv[1], max_retries=0))
    table = json.load(sys.stdin)
    transcripts = {scenario["name"]: player.play(scenario["steps"]) for scenario in table}
    json.dump({"version": openai.__version__, "transcripts": transcripts}, sys.stdout)


if __name__ == "__main__":
    main()
