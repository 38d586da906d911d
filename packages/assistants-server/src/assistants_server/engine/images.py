"""Uploaded images as data URLs: the one form in which every vision model takes them."""

from __future__ import annotations

from base64 import b64encode

# The image types of the Assistants API, by their first bytes. What an upload was called says
# nothing reliable.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def data_url(data: bytes) -> str:
    kind = next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
    if kind is None:
        kind = "image/webp" if data[8:12] == b"WEBP" else "application/octet-stream"
    return f"data:{kind};base64,{b64encode(data).decode()}"
