"""Object ids in the shape of OpenAI's: a prefix and random letters and digits.

Prefixes, lengths and alphabet were read off recorded live traffic of the Assistants API
(openai-dotnet's session recordings, 2025): ``asst_``, ``thread_``, ``msg_``, ``run_``, ``step_``
and ``call_`` carry 24 characters, files 22 after a hyphen, requests 32 hexadecimal digits.
"""

from __future__ import annotations

import secrets
import string

# One byte a character. 256 is no multiple of 62, so a few letters come 5 in 4 times as often as the
# others: 24 of them still hold 142 random bits.
_ALPHABET = (string.ascii_letters + string.digits).encode()
_CHARACTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))


def _random(length: int) -> str:
    return secrets.token_bytes(length).translate(_CHARACTERS).decode()


def assistant_id() -> str:
    return "asst_" + _random(24)


def thread_id() -> str:
    return "thread_" + _random(24)


def message_id() -> str:
    return "msg_" + _random(24)


def run_id() -> str:
    return "run_" + _random(24)


def step_id() -> str:
    return "step_" + _random(24)


def call_id() -> str:
    return "call_" + _random(24)


def file_id() -> str:
    return "file-" + _random(22)


def key_id() -> str:
    return "key_" + _random(24)


def secret() -> str:
    """A new API key: 48 random characters behind the prefix that clients expect of one."""
    return "sk-" + _random(48)


def request_id() -> str:
    return "req_" + secrets.token_hex(16)
