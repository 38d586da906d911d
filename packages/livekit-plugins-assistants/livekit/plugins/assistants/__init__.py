"""Assistants plugin for LiveKit Agents: an LLM whose memory is a thread.

``AssistantLLM`` talks to assistants-server, embedded or remote, or to any other server that speaks
OpenAI's Assistants API v2.
"""

from livekit.agents import Plugin

from .errors import AssistantError
from .llm import AssistantLLM
from .log import logger
from .messages import build_oai_message
from .models import ChatModels
from .options import (
    AssistantCreateOptions,
    AssistantLoadOptions,
    AssistantOptions,
    LLMOptions,
    OnFileUploaded,
    OnFileUploadedInfo,
)
from .stream import AssistantLLMStream
from .tools import AssistantTool
from .version import __version__

__all__ = [
    "AssistantCreateOptions",
    "AssistantError",
    "AssistantLLM",
    "AssistantLLMStream",
    "AssistantLoadOptions",
    "AssistantOptions",
    "AssistantTool",
    "ChatModels",
    "LLMOptions",
    "OnFileUploaded",
    "OnFileUploadedInfo",
    "__version__",
    "build_oai_message",
]


class AssistantsPlugin(Plugin):
    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__ or __name__, logger)


Plugin.register_plugin(AssistantsPlugin())

# Hide what is not exported from generated documentation.
_module = dir()
NOT_IN_ALL = [name for name in _module if name not in __all__]

__pdoc__ = dict.fromkeys(NOT_IN_ALL, False)
