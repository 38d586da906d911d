"""A thread that a test talks to over plain HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import frames, played, streaming
from tests.upstream import Upstream


def user(*words: str) -> list[Json]:
    return [{"role": "user", "content": word} for word in words]


@dataclass(frozen=True)
class Conversation:
    """A thread, its assistant, and the model on the other end."""

    http: httpx2.AsyncClient
    upstream: Upstream
    thread_id: str
    assistant_id: str

    @property
    def path(self) -> str:
        return f"/v1/threads/{self.thread_id}/runs"

    def body(self, *words: str, **more: Any) -> Json:
        return {
            "assistant_id": self.assistant_id,
            "additional_messages": user(*words),
            **more,
        }

    async def turn(self, *words: str, **more: Any) -> Json:
        """A whole turn; the run as it ended."""
        run: Json = (await played(self.http, self.path, self.body(*words, **more)))[-2][1]
        return run

    async def start(self, *words: str, **more: Any) -> Json:
        return await made(self.http, self.path, self.body(*words, **more))

    async def refused(self, *words: str, **more: Any) -> tuple[int, str, str | None, str | None]:
        return refusal(await self.http.post(self.path, json=self.body(*words, **more)))

    async def cut(self, *words: str, **more: Any) -> Json:
        """A turn whose client goes away behind the first words; the run as it was created."""
        async with streaming(self.http, self.path, self.body(*words, **more)) as response:
            async for name, data in frames(response):
                if name == "thread.run.created":
                    run: Json = data
                if name == "thread.message.delta":
                    return run
        raise AssertionError("the model said nothing")

    async def messages(self) -> list[Json]:
        path = f"/v1/threads/{self.thread_id}/messages?order=asc&limit=100"
        listed: list[Json] = (await self.http.get(path)).json()["data"]
        return listed

    async def texts(self) -> list[str]:
        return [one["content"][0]["text"]["value"] for one in await self.messages()]

    async def state(self) -> Any:
        """All that can be seen of the thread."""
        thread = (await self.http.get(f"/v1/threads/{self.thread_id}")).json()
        runs = (await self.http.get(self.path)).json()["data"]
        steps = [(await self.http.get(f"{self.path}/{run['id']}/steps")).json() for run in runs]
        return thread, runs, steps, await self.messages()

    @property
    def shown(self) -> list[tuple[str, Any]]:
        """What the model was shown last, without the instructions."""
        messages = self.upstream.requests[-1].messages
        return [(one["role"], one.get("content")) for one in messages if one["role"] != "system"]
