"""Images of the conversation: frames and data URLs are uploaded once, plain URLs pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from livekit.agents.llm import ImageContent
from livekit.agents.llm.utils import SerializedImage, serialize_image
from openai.types import FileObject

from .log import logger
from .messages import remember_file
from .options import OnFileUploaded, OnFileUploadedInfo
from .server import Server, side_by_side
from .snapshot import Entry, Image

_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


class ImageStore:
    """Which image is which file. ``files`` maps an image's key to its file's id."""

    def __init__(self, *, on_file_uploaded: OnFileUploaded | None) -> None:
        self.files: dict[str, str] = {}
        self._on_file_uploaded = on_file_uploaded
        self._unreadable: set[str] = set()

    async def upload(
        self, server: Server, entries: Iterable[Entry], images: Mapping[str, ImageContent]
    ) -> None:
        """Have a file for every image of these entries, those that are missing side by side."""
        missing = {
            part.key
            for entry in entries
            for part in entry.parts
            if isinstance(part, Image)
            and part.url is None
            and part.key not in self.files
            and part.key not in self._unreadable
            and part.key in images
        }
        if missing:
            await side_by_side(*(self._upload(server, key, images[key]) for key in missing))

    def of(self, entries: Iterable[Entry]) -> set[str]:
        """The uploaded files that these entries show."""
        return {
            self.files[part.key]
            for entry in entries
            for part in entry.parts
            if isinstance(part, Image) and part.key in self.files
        }

    def forget(self, file_ids: Iterable[str]) -> None:
        gone = set(file_ids)
        self.files = {key: one for key, one in self.files.items() if one not in gone}

    async def _upload(self, server: Server, key: str, image: ImageContent) -> None:
        try:
            data = await asyncio.get_running_loop().run_in_executor(None, _encode, image)
        except Exception:
            # What a broken image raises depends on Pillow; one picture must not end the turn.
            logger.warning("image left out: it cannot be read", exc_info=True)
            self._unreadable.add(key)
            return
        assert data.data_bytes is not None
        mime = data.mime_type or "image/jpeg"
        name = f"{key}.{_ENDINGS.get(mime, 'bin')}"
        file: FileObject = await server.upload(name, data.data_bytes, mime)
        self.files[key] = file.id
        remember_file(image, file.id)
        if self._on_file_uploaded is None:
            return
        info = OnFileUploadedInfo(type="image", original_file=image, openai_file_object=file)
        try:
            self._on_file_uploaded(info)
        except Exception:  # a listener's mistake must not end the turn
            logger.exception("on_file_uploaded failed", extra={"file_id": file.id})


def _encode(image: ImageContent) -> SerializedImage:
    """Scaled to the inference size; work for a thread, as it takes milliseconds of CPU."""
    return serialize_image(image, use_cache=False)
