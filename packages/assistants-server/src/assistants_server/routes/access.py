"""Who may ask: the beta header of the Assistants API, and the key that stands for a project."""

from __future__ import annotations

import re

from starlette.requests import Request

from ..errors import BadRequest, Forbidden, Unauthorized
from .keys import DEFAULT_PROJECT, KeyRing

TRUSTED_PROJECT = "assistants_server.project"
"""Where the scope's state names the project of a caller that needs no key."""

_BETA = re.compile(r"([A-Za-z0-9_-]+)=(v[0-9]+)")

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank "
    "username) if you're accessing the API from your browser and are prompted for a username and "
    "password. You can obtain an API key from https://platform.openai.com/account/api-keys."
)

_WEB_PAGE = (
    "This server has no keys, so it answers programs of its own machine and no web pages, nor "
    "requests to a public name. Make a key with: assistants-server keys create NAME"
)


async def project_of(request: Request, keys: KeyRing) -> str:
    """The project whose objects this request sees.

    While the store holds no keys, any key, or none, is the default project: such a server is
    reached from its own machine only. The embedded server names the project itself: its callers
    are the process that has the data in its hands.

    Raises:
        Unauthorized: keys are in use and this is none of them.
        Forbidden: no keys are in use and a web page asks.
    """
    trusted: str | None = request.scope.get("state", {}).get(TRUSTED_PROJECT)
    if trusted is not None:
        return trusted
    if not await keys.in_use():
        _check_not_a_web_page(request)
        return DEFAULT_PROJECT
    secret = _secret(request)
    if not secret:
        raise Unauthorized(_NO_KEY)
    project = await keys.project_of(secret)
    if project is None:
        raise Unauthorized(
            f"Incorrect API key provided: {_masked(secret)}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )
    return project


def _check_not_a_web_page(request: Request) -> None:
    """A browser on this machine reaches what listens on loopback, whatever page is open in it.

    It says so itself: with an ``Origin`` (https://developer.mozilla.org/docs/Web/HTTP/Headers/Origin),
    or, where a page has had its own name point here (DNS rebinding), with that name as ``Host``.
    """
    host = re.sub(r":\d+$", "", request.headers.get("host", ""))
    is_address = host.startswith("[") or host.replace(".", "").isdigit()
    if "origin" in request.headers or ("." in host and not is_address):
        raise Forbidden(_WEB_PAGE)


def _secret(request: Request) -> str:
    """A bearer token, or the header that clients made for Azure send."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("api-key", "").strip()


def _masked(secret: str) -> str:
    """As OpenAI shows one: the first eight and last four characters (``your_api*****here``)."""
    hidden = min(len(secret) - 12, 40)
    return secret if hidden <= 0 else secret[:8] + "*" * hidden + secret[-4:]


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
