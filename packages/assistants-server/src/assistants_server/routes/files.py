"""The paths of files. Bytes pass through in chunks, both ways; no file is ever whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from .. import ids
from ..domain.records import File
from ..errors import BadRequest, no_file
from ..store import files as store
from ..wire import files as wire
from ..wire.objects import DeletionObject, FileObject
from ..wire.parts import NoQuery, deletion, list_page
from . import uploads
from .endpoints import Call, Endpoint, Json
from .request_values import too_large
from .state import ServerState

_LONGEST_FIELD = 64 * 1024


async def create(call: Call[None, NoQuery]) -> Response:
    server = call.server
    fields: dict[str, bytes] = {}
    upload: _Upload | None = None
    try:
        async for part, data in uploads.parts(call.request, limit=server.settings.max_upload):
            if part.name != "file":
                fields[part.name] = fields.get(part.name, b"") + (data or b"")
                if len(fields[part.name]) > _LONGEST_FIELD:
                    raise BadRequest(f"Invalid '{part.name}': too long.", param=part.name)
                continue
            if upload is None:
                if "purpose" in fields:
                    wire.upload_fields(_decoded(fields))  # refuse before the bytes, not after
                upload = await _Upload.begin(call, part.filename or "upload")
            if upload.ended:
                raise BadRequest("Invalid 'file': one file at a time.", param="file")
            await upload.write(data)
        if upload is None:
            raise BadRequest(
                "Missing required parameter: 'file'.",
                param="file",
                code="missing_required_parameter",
            )
        return await upload.finish(_decoded(fields))
    except BaseException:
        if upload is not None:
            await upload.abort()
        raise


def _decoded(fields: Mapping[str, bytes]) -> dict[str, str]:
    return {
        name: value.decode("utf-8", errors="replace").replace("\0", "")
        for name, value in fields.items()
    }


class _Upload:
    """A file on its way into the store, which shows it when it is whole."""

    def __init__(self, call: Call[None, NoQuery], file: File) -> None:
        self._call = call
        self._database = call.server.database
        self._limit = call.server.settings.max_upload
        self._file = file
        # Each attempt has its own boundary, so what tells two uploads apart is what they hold.
        self._digest = None if call.keyed is None else sha256()
        self._waiting = bytearray()
        self._chunks = 0
        self._size = 0
        self.ended = False

    @classmethod
    async def begin(cls, call: Call[None, NoQuery], filename: str) -> _Upload:
        file = File(
            id=ids.file_id(),
            project_id=call.project,
            created_at=call.server.now(),
            filename=filename,
            bytes=0,
            purpose="",
        )
        await call.server.database.write(store.begin, file)
        return cls(call, file)

    async def write(self, data: bytes | None) -> None:
        if data is None:
            self.ended = True
            return
        self._size += len(data)
        if self._size > self._limit:
            raise too_large(self._limit)
        if self._digest is not None:
            self._digest.update(data)
        self._waiting += data
        while len(self._waiting) >= store.CHUNK:
            await self._store(store.CHUNK)

    async def finish(self, form: Mapping[str, str]) -> Response:
        fields = wire.upload_fields(form)
        if self._waiting:
            await self._store(len(self._waiting))
        call, keyed = self._call, self._call.keyed
        if keyed is not None and self._digest is not None:
            self._digest.update(repr((self._file.filename, sorted(form.items()))).encode())
            call = replace(call, keyed=replace(keyed, body_digest=self._digest.hexdigest()))
        return await call.write(
            wire.render,
            store.finish,
            self._file.project_id,
            self._file.id,
            size=self._size,
            purpose=fields.purpose,
            expires_at=fields.expires_at(self._file.created_at),
        )

    async def abort(self) -> None:
        await self._database.write(store.abort, self._file.id)

    async def _store(self, length: int) -> None:
        data = bytes(self._waiting[:length])
        del self._waiting[:length]
        await self._database.write(store.append, self._file.id, self._chunks, data)
        self._chunks += 1


async def list_all(call: Call[None, wire.FilesQuery]) -> Response:
    found = await call.server.database.read(
        store.list_page, call.project, call.query.page(), purpose=call.query.purpose
    )
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[None, NoQuery]) -> Response:
    return Json(wire.render(await _file(call)))


async def delete(call: Call[None, NoQuery]) -> Response:
    file_id = _id(call)
    await call.server.database.write(store.delete, call.project, file_id)
    return Json(deletion("file", file_id))


async def content(call: Call[None, NoQuery]) -> Response:
    file = await _file(call)
    return StreamingResponse(
        _content(call.server, file),
        media_type="application/octet-stream",
        headers={
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        },
    )


async def _file(call: Call[None, NoQuery]) -> File:
    return await call.server.database.read(store.get, call.project, _id(call))


def _id(call: Call[None, NoQuery]) -> str:
    value: str = call.request.path_params["file_id"]
    if "\0" in value:
        raise no_file(value)
    return value


async def _content(server: ServerState, file: File) -> AsyncIterator[bytes]:
    sent = number = 0
    while sent < file.bytes:
        data = await server.database.read(store.read_chunk, file.id, number)
        if data is None:
            raise no_file(file.id)  # deleted under our hands; the connection ends short
        sent += len(data)
        number += 1
        yield data


_ALL = "/v1/files"
_ONE = _ALL + "/{file_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        _ALL,
        create,
        "Upload a file (multipart form).",
        "The file.",
        returns=FileObject,
        beta=False,
    ),
    Endpoint(
        "GET",
        _ALL,
        list_all,
        "List files.",
        "A page of files.",
        returns=list[FileObject],
        query=wire.FilesQuery,
        beta=False,
    ),
    Endpoint(
        "GET",
        _ONE,
        retrieve,
        "Retrieve a file's description.",
        "The file.",
        returns=FileObject,
        beta=False,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        delete,
        "Delete a file.",
        "The deletion.",
        returns=DeletionObject,
        beta=False,
    ),
    Endpoint(
        "GET",
        _ONE + "/content",
        content,
        "Download a file.",
        "Its bytes.",
        media="application/octet-stream",
        beta=False,
    ),
)
