"""Which model the terminal agent talks to: the one you have, or the local one."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

import openai

OPENAI_DEFAULT = "gpt-4o-mini"
LOCAL = "local"  # the server's name for the model that runs in its own process

NO_MODEL = """\
There is no model to talk to. Either
  set OPENAI_API_KEY (and OPENAI_BASE_URL, for another endpoint than OpenAI's), or
  run `make demo` in the repository, which installs a small local model."""


class NoModel(Exception):
    """No model can be chosen; the message says what to do."""


@dataclass(frozen=True)
class Model:
    name: str
    shown: str
    """What the user is told."""


async def choose_model(wanted: str | None, server_url: str | None) -> Model:
    """The model to ask for, from what the user said and what the environment offers."""
    if server_url is not None:
        name = wanted or await only_model(server_url, os.environ.get("OPENAI_API_KEY"))
        return Model(name, f"{name} at the server {server_url}")
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if wanted == LOCAL or not (url or key):
        check_local()
        why = "asked for" if wanted == LOCAL else "OPENAI_API_KEY is not set"
        return Model(LOCAL, f"SmolLM2-135M-Instruct, a small local model ({why})")
    if url is None:
        name = wanted or OPENAI_DEFAULT
        return Model(name, f"{name} at OpenAI")
    name = wanted or await only_model(url, key)
    return Model(name, f"{name} at {urlsplit(url).netloc}")


def check_local() -> None:
    """Whether the local model's runtime loads: it needs a library of the system."""
    try:
        importlib.import_module("xllamacpp")
    except ModuleNotFoundError as error:
        raise NoModel(NO_MODEL) from error
    except ImportError as error:
        raise NoModel(
            f"The local model's runtime cannot be loaded ({error}). On Debian or Ubuntu: "
            "sudo apt-get install libgomp1. Or set OPENAI_API_KEY."
        ) from error


async def only_model(url: str, key: str | None) -> str:
    """The one model an endpoint has; with several, the user has to choose."""
    try:
        async with openai.AsyncOpenAI(
            base_url=url, api_key=key or "none", max_retries=0, timeout=10
        ) as client:
            names = [model.id async for model in client.models.list()]
    except openai.AuthenticationError as error:
        raise NoModel(f"{url} refused the API key.") from error
    except openai.APIStatusError as error:
        raise NoModel(
            f"{url} does not list its models (status {error.status_code}); name one with --model."
        ) from error
    except openai.APIError as error:
        raise NoModel(f"{url} does not answer.") from error
    if len(names) == 1:
        return names[0]
    offered = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    raise NoModel(f"Choose a model with --model; {url} offers: {offered or 'none'}.")
