"""OpenAI's Assistants API v2 on your own machine, in front of any Chat Completions model."""

from .version import __version__

__all__ = ["__version__"]
