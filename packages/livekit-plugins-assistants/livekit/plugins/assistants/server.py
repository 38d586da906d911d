"""The endpoints of an Assistants server that the plugin uses, one request each.

They are called below the SDK's resource classes: those emit a deprecation warning per call and
build models of every text delta. The client, its transport, headers and errors are the SDK's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import httpx2
import openai
from openai import AsyncStream
from openai.types import FileObject

VERSION_HEADER = "assistants-server"
"""Answers carry it where the server has the extensions."""

_BETA = {"OpenAI-Beta": "assistants=v2"}
_PAGE = 100

Json = dict[str, Any]


class Server:
    """``extensions`` is None until the first answer has told."""

    def __init__(self, client: openai.AsyncClient, *, extensions: bool | None = None) -> None:
        self.client = client
        self.extensions = extensions
        self.timeout = httpx2.Timeout(30.0, connect=10.0)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        headers = dict(_BETA)
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        options: Any = {"headers": headers, "timeout": self.timeout, "max_retries": 0}
        if params is not None:
            options["params"] = dict(params)
        if method == "GET":
            response = await self.client.get(path, cast_to=httpx2.Response, options=options)
        elif method == "DELETE":
            response = await self.client.delete(path, cast_to=httpx2.Response, options=options)
        else:
            response = await self.client.post(
                path, cast_to=httpx2.Response, body=dict(body or {}), options=options
            )
        self._learn(response)
        answer: Json = response.json()
        return answer

    async def stream(
        self, path: str, body: Mapping[str, Any], *, timeout: httpx2.Timeout
    ) -> AsyncStream[object]:
        """An event stream. Its events are ``{"event": name, "data": object}``, undecoded."""
        stream = await self.client.post(
            path,
            cast_to=object,
            body=dict(body),
            options={"headers": _BETA, "timeout": timeout, "max_retries": 0},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        self._learn(stream.response)
        return stream

    async def page(
        self, path: str, *, after: str | None = None, order: str = "desc", **params: Any
    ) -> Json:
        query = {"limit": _PAGE, "order": order, **params}
        if after is not None:
            query["after"] = after
        return await self.request("GET", path, params=query)

    async def every(self, path: str, *, order: str = "asc", most: int | None = None) -> list[Json]:
        """All objects of a list, page by page; at most ``most``."""
        found: list[Json] = []
        after: str | None = None
        while True:
            page = await self.page(path, after=after, order=order)
            found.extend(page["data"])
            if most is not None and len(found) >= most:
                return found[:most]
            if not page.get("has_more") or not page["data"]:
                return found
            after = page["data"][-1]["id"]

    async def upload(self, name: str, data: bytes, mime_type: str) -> FileObject:
        return await self.client.with_options(max_retries=0).files.create(
            file=(name, data, mime_type), purpose="vision"
        )

    async def delete_file(self, file_id: str) -> None:
        await self.request("DELETE", f"/files/{file_id}")

    def _learn(self, response: httpx2.Response) -> None:
        if self.extensions is None:
            self.extensions = VERSION_HEADER in response.headers


async def side_by_side(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Several requests at once. When one fails, or who waits is cancelled, none goes on alone."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        if not all(task.done() for task in tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
