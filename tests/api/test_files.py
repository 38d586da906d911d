"""Files: uploads in chunks, broken forms, limits, downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.exchanges import Json, refusal
from tests.live_server import live_server

from assistants_server.store.files import CHUNK

BIG = bytes(range(256)) * (CHUNK // 256 * 2) + b"tail"


async def upload(
    http: httpx2.AsyncClient,
    content: bytes,
    name: str = "notes.txt",
    **fields: Any,
) -> httpx2.Response:
    data = {"purpose": "assistants", **fields}
    return await http.post("/v1/files", data=data, files={"file": (name, content)})


def form(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form by hand: each part's Content-Disposition beside its name, and its data."""
    body = b"".join(
        b"--edge\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return body + b"--edge--\r\n", {"content-type": "multipart/form-data; boundary=edge"}


@pytest.mark.parametrize("content", [b"hello", b"", b"x" * CHUNK, BIG])
async def test_a_file_comes_back_byte_for_byte(http: httpx2.AsyncClient, content: bytes) -> None:
    shown = (await upload(http, content)).json()
    assert shown["bytes"] == len(content)
    assert (shown["object"], shown["purpose"], shown["filename"], shown["status"]) == (
        "file",
        "assistants",
        "notes.txt",
        "processed",
    )
    assert shown["expires_at"] is None
    path = f"/v1/files/{shown['id']}"
    assert (await http.get(path)).json() == shown
    response = await http.get(path + "/content")
    assert response.content == content
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("C:\\Users\\me\\notes.txt", "notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("größe 1.txt", "größe 1.txt"),
        ("", "upload"),
        ("x" * 300, "x" * 255),
    ],
)
async def test_a_filename_is_kept_without_its_path(
    http: httpx2.AsyncClient, sent: str, kept: str
) -> None:
    head = f'name="file"; filename="{sent}"'
    body, headers = form(('name="purpose"', b"vision"), (head, b"x"))
    response = await http.post("/v1/files", content=body, headers=headers)
    assert response.json()["filename"] == kept
    content = await http.get(f"/v1/files/{response.json()['id']}/content")
    assert content.content == b"x"


async def test_the_purpose_may_come_after_the_file(http: httpx2.AsyncClient) -> None:
    body, headers = form(
        ('name="file"; filename="a.txt"', BIG),
        ('name="purpose"', b"vision"),
        ('name="expires_after[anchor]"', b"created_at"),
        ('name="expires_after[seconds]"', b"3600"),
    )
    shown = (await http.post("/v1/files", content=body, headers=headers)).json()
    assert (shown["purpose"], shown["bytes"]) == ("vision", len(BIG))
    assert shown["expires_at"] == shown["created_at"] + 3600


async def nothing_is_listed(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/files")).json()["data"] == []


async def test_an_unknown_purpose_is_refused(http: httpx2.AsyncClient) -> None:
    assert refusal(await upload(http, b"x", purpose="fun")) == (
        400,
        (
            "'fun' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', "
            "'evals'] - 'purpose'"
        ),
        "purpose",
        None,
    )
    body, headers = form(('name="file"; filename="a"', b"x"), ('name="purpose"', b"fun"))
    late = await http.post("/v1/files", content=body, headers=headers)
    assert refusal(late)[2] == "purpose"
    await nothing_is_listed(http)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "Missing required parameter: 'file'."),
        ([('name="purpose"', b"vision")], "Missing required parameter: 'file'."),
        ([('name="file"; filename="a"', b"x")], "Missing required parameter: 'purpose'."),
        (
            [
                ('name="purpose"', b"vision"),
                ('name="file"; filename="a"', b"x"),
                ('name="file"; filename="b"', b"y"),
            ],
            "Invalid 'file': one file at a time.",
        ),
        (
            [
                ('name="purpose"', b"vision"),
                ('name="extra"', b"1"),
                ('name="file"; filename="a"', b"x"),
            ],
            "Unknown parameter: 'extra'.",
        ),
        ([('name="purpose"', b"x" * 70_000)], "Invalid 'purpose': too long."),
        (
            [(f'name="f{number}"', b"") for number in range(40)],
            "The form has too many fields; at most 32 are accepted.",
        ),
    ],
)
async def test_forms_that_do_not_fit_are_refused(
    http: httpx2.AsyncClient, parts: list[tuple[str, bytes]], message: str
) -> None:
    body, headers = form(*parts)
    response = await http.post("/v1/files", content=body, headers=headers)
    assert refusal(response)[:2] == (400, message)
    await nothing_is_listed(http)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--edge\r\n",
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf a fi',
        b"nonsense",
        b"--edge\r\n: \r\n\r\n",
        b"--edge\r\n\xff\xfe\r\n\r\n--edge--",
        b"--edge" + b"\r\nX: y" * 100 + b"\r\n\r\nx\r\n--edge--\r\n",
    ],
)
async def test_broken_forms_are_refused(http: httpx2.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=edge"}
    response = await http.post("/v1/files", content=body, headers=headers)
    assert refusal(response)[0] == 400
    await nothing_is_listed(http)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("application/json", "Invalid Content-Type header (application/json), expected multipart"),
        ("multipart/form-data", "We could not parse the form of your request: its Content-Type"),
        (
            "multipart/form-data; boundary=" + "x" * 99,
            "We could not parse the form of your request: ",
        ),
    ],
)
async def test_uploads_are_forms(http: httpx2.AsyncClient, kind: str, sentence: str) -> None:
    response = await http.post("/v1/files", content=b"{}", headers={"content-type": kind})
    status, message, *_ = refusal(response)
    assert status == 400
    assert message.startswith(sentence)


async def test_a_file_too_large_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with live_server(data=tmp_path, max_upload=CHUNK) as server, server.http() as http:
        assert (await upload(http, b"x" * CHUNK)).status_code == 200
        for size in (CHUNK + 1, CHUNK * 8):
            assert refusal(await upload(http, b"x" * size)) == (
                413,
                f"The request body is too large: this server accepts at most {CHUNK} bytes.",
                None,
                "request_too_large",
            )
        assert len((await http.get("/v1/files")).json()["data"]) == 1


async def test_files_are_listed_by_purpose(http: httpx2.AsyncClient) -> None:
    seen: list[Json] = [
        (await upload(http, b"x", purpose=purpose)).json()
        for purpose in ("assistants", "vision", "vision")
    ]
    page = (await http.get("/v1/files?purpose=vision&limit=1&order=asc")).json()
    assert page["data"] == [seen[1]]
    assert page["has_more"] is True
    page = (await http.get(f"/v1/files?order=asc&after={seen[0]['id']}")).json()
    assert page["data"] == seen[1:]


async def test_a_deleted_file_is_gone(http: httpx2.AsyncClient) -> None:
    shown = (await upload(http, b"x")).json()
    path = f"/v1/files/{shown['id']}"
    assert (await http.delete(path)).json() == {
        "id": shown["id"],
        "object": "file",
        "deleted": True,
    }
    for method, suffix in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert refusal(await http.request(method, path + suffix)) == (
            404,
            f"No such File object: {shown['id']}",
            "id",
            None,
        )
