"""``AssistantLLM``: a LiveKit LLM whose conversation is a thread of an Assistants server."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

import httpx2
import openai
from livekit.agents import APIConnectOptions, llm
from livekit.agents.llm import ChatContext, Tool, ToolChoice
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    NotGivenOr,
)
from livekit.agents.utils import is_given
from typing_extensions import Self

from assistants_server.settings import Settings

from .attachment import Attachment
from .conversation import Conversation
from .errors import AssistantError, to_livekit, translatable
from .messages import chat_context
from .options import (
    AssistantOptions,
    Conduct,
    DeleteFiles,
    Interrupted,
    OnFileUploaded,
    RunOptions,
    check_options,
)
from .server import Server
from .stream import AssistantLLMStream
from .tools import wire_tool_choice, wire_tools

if TYPE_CHECKING:
    from livekit.agents import AgentSession

    from assistants_server.embedded import EmbeddedServer

_EMBEDDED = "embedded assistants-server"


class AssistantLLM(llm.LLM[Literal["metrics_collected", "error"]]):
    def __init__(
        self,
        *,
        assistant_opts: AssistantOptions,
        client: openai.AsyncClient | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        on_file_uploaded: OnFileUploaded | None = None,
        thread_id: str | None = None,
        thread_key: str | None = None,
        model: NotGivenOr[str] = NOT_GIVEN,
        temperature: NotGivenOr[float] = NOT_GIVEN,
        top_p: NotGivenOr[float] = NOT_GIVEN,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        response_format: NotGivenOr[str | Mapping[str, Any]] = NOT_GIVEN,
        reasoning_effort: NotGivenOr[str] = NOT_GIVEN,
        truncation: NotGivenOr[int | Mapping[str, Any]] = NOT_GIVEN,
        max_prompt_tokens: NotGivenOr[int] = NOT_GIVEN,
        max_completion_tokens: NotGivenOr[int] = NOT_GIVEN,
        metadata: NotGivenOr[Mapping[str, str]] = NOT_GIVEN,
        interrupted: Interrupted = "heard",
        delete_files: DeleteFiles = "never",
        extensions: bool | None = None,
        strict_tool_schema: bool = True,
        idle_timeout: float = 30.0,
        server_settings: Settings | None = None,
    ) -> None:
        """A LLM whose memory is a thread.

        Without ``client`` and ``base_url`` (or ``ASSISTANTS_BASE_URL``) the server runs inside this
        process, with its data in ``ASSISTANTS_HOME``; ``api_key`` is then the model's.

        Args:
            assistant_opts: The assistant to find or make (``create_options``) or to load.
            client: A client to use. It is not closed.
            api_key: Key of the server, or of the model for the embedded server.
            base_url: Where the server is.
            on_file_uploaded: Called once for each image that is uploaded.
            thread_id: The thread to go on with; the same as in ``load_options``.
            thread_key: A name of yours for the thread, such as the caller's number: the thread of
                that name is found, or made.
            model: Model of every run, instead of the assistant's.
            temperature: Of every run, instead of the assistant's.
            top_p: Likewise.
            parallel_tool_calls: Whether the model may call several tools at once.
            response_format: ``"auto"`` or a JSON schema, as in the API.
            reasoning_effort: As in the API.
            truncation: How many of the newest messages the model is shown, or the API's object.
            max_prompt_tokens: Bound of a run.
            max_completion_tokens: Bound of a run.
            metadata: Metadata of every run.
            interrupted: What the thread keeps of an interrupted reply: what was ``"heard"``, or the
                ``"full"`` text.
            delete_files: When uploaded images are deleted: ``"never"``, ``"with_message"`` or
                ``"on_close"``.
            extensions: Whether the server has assistants-server's extensions; None: it tells.
            strict_tool_schema: Send strict JSON schemas of function tools.
            idle_timeout: Seconds of silence of a stream until it counts as broken, unless the
                session's ``conn_options`` ask for a timeout of their own.
            server_settings: Settings of the embedded server.
        """
        super().__init__()
        check_options(assistant_opts)
        loaded = assistant_opts.load_options
        if thread_id is None and loaded is not None:
            thread_id = loaded.thread_id
        if thread_id is not None and thread_key is not None:
            raise AssistantError("Pass thread_id or thread_key, not both.")
        self._opts = assistant_opts
        self._run_options = RunOptions(
            model=model,
            temperature=temperature,
            top_p=top_p,
            parallel_tool_calls=parallel_tool_calls,
            response_format=response_format,
            reasoning_effort=reasoning_effort,
            truncation=truncation,
            max_prompt_tokens=max_prompt_tokens,
            max_completion_tokens=max_completion_tokens,
            metadata=metadata,
        )
        self._conduct = Conduct(
            thread_key=thread_key,
            interrupted=interrupted,
            delete_files=delete_files,
            extensions=extensions,
            idle_timeout=idle_timeout,
            on_file_uploaded=on_file_uploaded,
        )
        self._given_client = client
        self._client: openai.AsyncClient | None = client
        self._api_key = api_key
        self._base_url = base_url or os.environ.get("ASSISTANTS_BASE_URL")
        self._server_settings = server_settings
        self._strict_tool_schema = strict_tool_schema
        self._embedded: EmbeddedServer | None = None
        self._closed = False
        self._attachments: list[Attachment] = []
        self._streams: weakref.WeakSet[AssistantLLMStream] = weakref.WeakSet()
        self._conversation = Conversation(
            connect=self._connect,
            options=assistant_opts,
            thread_id=thread_id,
            conduct=self._conduct,
        )

    # what LiveKit asks for ----------------------------------------------------------------------

    @property
    def model(self) -> str:
        if is_given(self._run_options.model):
            return self._run_options.model
        if self._conversation.assistant is not None:
            return self._conversation.assistant.model
        create = self._opts.create_options
        return create.model if create is not None else "unknown"

    @property
    def provider(self) -> str:
        url = str(self._given_client.base_url) if self._given_client else self._base_url
        return (urlparse(url).netloc or url) if url else _EMBEDDED

    @property
    def stateful(self) -> bool:
        """``chat()`` changes what outlives it: not for speculative use by frameworks."""
        return True

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
        temperature: float | None = None,
        n: int | None = None,
    ) -> AssistantLLMStream:
        """Answer ``chat_ctx``. ``extra_kwargs`` are further fields of the run.

        ``temperature`` and ``n`` are the old module's; a run has one answer, so ``n`` can be 1.
        """
        if n not in (None, 1):
            raise ValueError("A run of the Assistants API gives one answer: n can only be 1.")
        settings = self._run_options.body()
        if is_given(parallel_tool_calls):
            settings["parallel_tool_calls"] = parallel_tool_calls
        if temperature is not None:
            settings["temperature"] = temperature
        # Without any of its own a run has the assistant's.
        if offered := wire_tools(tools or (), strict=self._strict_tool_schema):
            settings["tools"] = offered
            if is_given(tool_choice):
                settings["tool_choice"] = wire_tool_choice(tool_choice)
        if is_given(extra_kwargs):
            settings.update(extra_kwargs)
        snapshot, images = self._conversation.turns.take(chat_ctx, settings)
        stream = AssistantLLMStream(
            self,
            conversation=self._conversation,
            snapshot=snapshot,
            images=images,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=conn_options,
            idle_timeout=self._conduct.idle_timeout,
        )
        self._streams.add(stream)
        return stream

    async def _prewarm_impl(self) -> None:
        """Find assistant and thread, which also warms the connection."""
        self._conversation.used_by_a_session()
        await self._conversation.ready()

    async def aclose(self) -> None:
        """End what streams, undo what is known to be unsaid, wait for clean-up under way, close
        what was made here.

        LiveKit does not call it: ``ctx.add_shutdown_callback(llm.aclose)``, or ``async with``.
        """
        if self._closed:
            return
        self._closed = self._conversation.closing = True
        try:
            await asyncio.gather(*(one.aclose() for one in self._streams if not one.done))
            for attachment in list(self._attachments):
                await attachment.aclose()
            await super().aclose()
            await self._conversation.aclose()
        finally:
            if self._client is not None and self._client is not self._given_client:
                await self._client.close()
            if self._embedded is not None:
                from assistants_server import embedded

                await embedded.release(self._embedded)

    async def __aenter__(self) -> Self:
        return self

    # the thread ---------------------------------------------------------------------------------

    @property
    def assistant_id(self) -> str | None:
        """The assistant's id, once it is known."""
        assistant = self._conversation.assistant
        if assistant is not None:
            return assistant.id
        loaded = self._opts.load_options
        return loaded.assistant_id if loaded is not None else None

    @property
    def thread_id(self) -> str | None:
        """The thread's id, once it is known."""
        return self._conversation.thread_id

    async def load_chat_ctx(self, *, limit: int | None = None) -> ChatContext:
        """The thread, or its ``limit`` newest messages, as a context for ``Agent(chat_ctx=…)``.

        Raises:
            APIError: the server cannot be reached, or assistant or thread do not exist.
        """
        conversation = self._conversation
        try:
            await conversation.ready()
            path = f"/threads/{conversation.ledger.thread_id}/messages"
            messages = await conversation.server.every(path, order="desc", most=limit)
        except Exception as error:
            if not translatable(error):
                raise
            raise to_livekit(error) from error
        return chat_context(conversation.ledger.thread_id, messages[::-1])

    async def sync(self, history: ChatContext) -> None:
        """Make the thread equal to ``history`` (``session.history``) now, with what the next turn
        would have brought: a last ``say()``, what was heard of the last reply.

        Raises:
            APIError: the server cannot be reached or refuses.
        """
        try:
            await self._conversation.sync(history)
        except Exception as error:
            if not translatable(error):
                raise
            raise to_livekit(error) from error

    def attach(self, session: AgentSession[Any]) -> None:
        """Keep the thread equal to this session's history by itself, between turns and when the
        session closes."""
        if all(one.session is not session for one in self._attachments):
            self._attachments.append(Attachment(self, session, ended=self._attachments.remove))

    # connecting ---------------------------------------------------------------------------------

    async def _connect(self) -> Server:
        if self._client is None:
            self._client = self._make_client()
        if self._embedded is not None:
            from assistants_server import embedded

            try:
                await self._embedded.start()
            except embedded.StartupError as error:
                raise AssistantError(str(error)) from error
        return Server(self._client, extensions=self._conduct.extensions)

    def _make_client(self) -> openai.AsyncClient:
        if self._base_url is None:
            # Loaded when it is used: the server's libraries cost half a second.
            from assistants_server import embedded

            try:
                settings = self._server_settings or embedded.settings_of_environment()
            except embedded.StartupError as error:
                raise AssistantError(str(error)) from error
            if self._api_key is not None:
                settings = settings.model_copy(update={"upstream_key": self._api_key})
            self._embedded = embedded.acquire(settings)
            return self._embedded.client()
        key = self._api_key or os.environ.get("ASSISTANTS_API_KEY")
        return openai.AsyncClient(
            # A server without keys takes any.
            api_key=key or os.environ.get("OPENAI_API_KEY") or "none",
            base_url=self._base_url,
            max_retries=0,
            http_client=httpx2.AsyncClient(
                timeout=httpx2.Timeout(30.0, connect=10.0, read=30.0, pool=5.0),
                follow_redirects=True,
                limits=httpx2.Limits(
                    max_connections=1000, max_keepalive_connections=100, keepalive_expiry=120
                ),
            ),
        )
