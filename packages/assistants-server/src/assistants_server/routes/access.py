"""Who may ask: the beta header of the Assistants API, and the key that stands for a project."""

from __future__ import annotations

import re

from starlette.requests import Request

from ..errors import BadRequest

DEFAULT_PROJECT = "default"

_BETA = re.compile(r"([A-Za-z0-9_-]+)=(v[0-9]+)")


async def project_of(request: Request) -> str:
    """The project whose objects this request sees.

    The store holds no keys, so any key, or none, is the default project.
    """
    return DEFAULT_PROJECT


def check_beta(request: Request) -> None:
    """``assistants=v2`` must be among the betas that the request asks for.

    Raises:
        BadRequest: ``invalid_beta``, with what is wrong with the header.
    """
    header = ",".join(request.headers.getlist("openai-beta"))
    asked = [item.strip() for item in header.split(",") if item.strip()]
    if "assistants=v2" in asked:
        return
    if not asked:
        raise _invalid(
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try "
            "again by setting the header 'OpenAI-Beta: assistants=v2'."
        )
    if "assistants=v1" in asked:
        raise _invalid(
            "The v1 Assistants API is not supported. Please try again by setting the header "
            "'OpenAI-Beta: assistants=v2'."
        )
    for item in asked:
        if not _BETA.fullmatch(item):
            raise _invalid(
                f"Invalid beta header provided: '{item}'. The header should be in the format "
                "'OpenAI-Beta: example_beta=v1'."
            )
    name = asked[0].partition("=")[0]
    raise _invalid(f"Unknown beta requested: '{asked[0] if name == 'assistants' else name}'.")


def _invalid(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_beta")
