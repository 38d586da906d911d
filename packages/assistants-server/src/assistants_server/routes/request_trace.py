"""The outermost layer: request id, the headers that every answer carries, and one log line.

Plain ASGI, because streams must pass through untouched. Whatever nobody below expected ends here
as a 500 that is logged once, with the request's id and without its body.
"""

from __future__ import annotations

import logging
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import ids, log
from ..version import __version__
from . import error_responses

logger = logging.getLogger(__name__)

STORED = "assistants.stored"
"""In the scope the id of the run, once it is stored: a later fault must not make the client start
another."""

_FIXED = [
    (b"openai-version", b"2020-10-01"),
    (b"assistants-server", __version__.encode()),
]


class RequestTrace:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = ids.request_id()
        asked = dict(scope["headers"])
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                elapsed = int((time.perf_counter() - started) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", str(elapsed).encode()),
                    (b"openai-organization", asked.get(b"openai-organization", b"self-hosted")),
                    (b"openai-project", asked.get(b"openai-project", b"default")),
                    *_FIXED,
                ]
                if status >= 500 and scope.get(STORED):
                    message["headers"].append((b"x-should-retry", b"false"))
            await send(message)

        token = log.request_id.set(request_id)
        try:
            await self._app(scope, receive, send_traced)
        except ClientDisconnect:
            status = 499  # the client left before its request was whole; nobody reads an answer
        except Exception:
            logger.exception("request failed")
            if status:
                raise  # the answer is under way; the connection must not end as if it were whole
            await error_responses.render(error_responses.fault())(scope, receive, send_traced)
        finally:
            server = getattr(scope["app"].state, "server", None) if "app" in scope else None
            if server is not None:
                server.measurements.requests[scope["method"], status] += 1
            if logger.isEnabledFor(logging.INFO):
                fields = {"ms": round((time.perf_counter() - started) * 1000, 1)}
                if STORED in scope:
                    fields["run_id"] = scope[STORED]
                logger.info("%s %s %d", scope["method"], scope["path"], status, extra=fields)
            log.request_id.reset(token)
