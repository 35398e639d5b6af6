"""Archives of a log: whole, in order, readable without us, and nothing that was changed goes unnoticed."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import zstandard
from tools_cli import PATIENCE
from tools_governor import SAFEAI, Governor
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER

from safeai_git.audit import verify_file
from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log.entry import Draft
from safeai_git.governor.archive import Archived, Folder, Place, Segment, archive_log, restore, segments_of
from safeai_git.governor.archive_s3 import S3
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log

KEYS = (LOG_KEY,)


def grow(folder: Path, batches: int, first: int = 0) -> Path:
    """A log with so many more batches of three entries; the file."""
    log: AuditLog = open_file_log(folder, LogSigner(ORIGIN, [LOG_SIGNER]))
    try:
        for batch in range(first, first + batches):
            drafts = [Draft.of_data("policy", f"p{batch}.{at}", {"version": at}) for at in range(3)]
            log.submit(drafts).wait(PATIENCE)
    finally:
        log.close()
    return folder / "audit.log"


class Requests(list[str]):
    """What a store was asked, a line each."""


class Store(http.server.ThreadingHTTPServer):
    """As much of an object store as an archive needs, which believes no request without a version 4 signature."""

    daemon_threads = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked = Requests()
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def signed(self, body: bytes) -> bool:
                authorization = self.headers.get("Authorization", "")
                shape = (
                    r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/[0-9]{8}/eu-west-1/s3/aws4_request, "
                    r"SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}"
                )
                found = re.fullmatch(shape, authorization)
                wanted = {"host", "x-amz-content-sha256", "x-amz-date"}
                stated = self.headers.get("x-amz-content-sha256")
                return (
                    bool(found)
                    and wanted <= set(found[1].split(";"))
                    and stated == hashlib.sha256(body).hexdigest()
                )

            def answer(self, status: int, body: bytes = b"", kind: str = "application/xml") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def refused(self, status: int, code: str) -> None:
                self.answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = parse_qs(parts.query)
                store.asked.append(f"GET {self.path}")
                if not self.signed(b""):
                    self.refused(403, "AccessDenied")
                elif parts.path == "/bucket" and query.get("list-type") == ["2"]:
                    prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
                    names = sorted(one for one in store.objects if one.startswith(prefix) and one > after)
                    page = "".join(
                        f"<Contents><Key>{one}</Key><Size>1</Size></Contents>" for one in names[:2]
                    )
                    if len(names) > 2:
                        page += f"<NextContinuationToken>{names[1]}</NextContinuationToken><IsTruncated>true</IsTruncated>"
                    self.answer(200, f"<ListBucketResult>{page}</ListBucketResult>".encode())
                elif (found := store.objects.get(unquote(parts.path).removeprefix("/bucket/"))) is not None:
                    self.answer(200, found, "application/octet-stream")
                else:
                    self.refused(404, "NoSuchKey")

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = unquote(urlsplit(self.path).path).removeprefix("/bucket/")
                store.asked.append(f"PUT {self.path}")
                if not self.signed(body):
                    self.refused(403, "AccessDenied")
                elif self.headers.get("If-None-Match") == "*" and key in store.objects:
                    self.refused(412, "PreconditionFailed")
                else:
                    store.objects[key] = body
                    self.answer(200)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def environment(self) -> dict[str, str]:
        """What a program has to be told to use this store, and nothing of the machine's own."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not a secret",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.server_port}",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_grows_is_archived_once_and_comes_back_byte_for_byte(
    tmp_path: Path, store: Store, kind: str
) -> None:
    place: Place = Folder(tmp_path / "archive") if kind == "folder" else S3("s3://bucket/some/prefix/")
    (tmp_path / "g").mkdir()
    log = grow(tmp_path / "g", 4)
    first, held = archive_log(log, place, KEYS, (), segment_bytes=1_000)
    assert len(first) > 1
    assert held == 13
    assert archive_log(log, place, KEYS, ()) == ([], 13)
    before = log.read_bytes()
    grow(tmp_path / "g", 3, 4)
    second, held = archive_log(log, place, KEYS, (), segment_bytes=1_000)
    assert held == 22
    assert segments_of(place) == [*first, *second]
    assert log.read_bytes().startswith(before)
    assert restore(place, tmp_path / "copy") == len(log.read_bytes())
    assert (tmp_path / "copy").read_bytes() == log.read_bytes()
    joined = zstandard.ZstdDecompressor().stream_reader(
        b"".join(place.get(one.name) for one in segments_of(place)), read_across_frames=True
    )
    assert joined.read() == log.read_bytes()  # as zstd -dc has it
    grow(tmp_path / "g", 1, 7)
    for source in (Archived(place), Archived(place, log), Archived(place, _rest(log, 22))):
        report = verify_file(source, keys=KEYS)
        assert (report.state, report.size) == (
            "consistent",
            22 if source is None or "and" not in str(source) else 25,
        )
    with pytest.raises(WrongUse, match="is there already"):
        restore(place, tmp_path / "copy")
    if kind == "s3":
        assert all(key.startswith("some/prefix/audit.log.") for key in store.objects)
        with pytest.raises(StorageError, match="already, with another content"):
            place.put(first[0].name, b"another")


def _rest(log: Path, size: int) -> Path:
    """The lines of a log after so many entries and their commit line, in a file of their own."""
    lines = log.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith(b'{"seq":%d,' % size))
    rest = log.with_name("rest.log")
    rest.write_bytes(b"".join(lines[at:]))
    return rest


def test_what_was_changed_is_found(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    log = grow(tmp_path / "g", 4)
    archive = tmp_path / "archive"
    archive_log(log, Folder(archive), KEYS, (), segment_bytes=1_000)
    files = sorted(archive.iterdir())
    whole = {path: path.read_bytes() for path in files}
    lines = log.read_bytes()

    def put_back() -> None:
        for path, data in whole.items():
            path.write_bytes(data)
        log.write_bytes(lines)

    for at in range(0, len(whole[files[0]]), 7):
        data = bytearray(whole[files[0]])
        data[at] ^= 1
        files[0].write_bytes(data)
        with contextlib.suppress(FormatError):
            assert verify_file(Archived(Folder(archive)), keys=KEYS).state == "tampered"
    put_back()
    files[-1].write_bytes(whole[files[-1]][:-30])
    with pytest.raises(FormatError, match=r"cut off|expanded"):
        verify_file(Archived(Folder(archive)), keys=KEYS)
    put_back()
    files[1].unlink()
    with pytest.raises(StorageError, match="not whole: after entry"):
        verify_file(Archived(Folder(archive)), keys=KEYS)
    put_back()
    other = zstandard.ZstdCompressor().compress(b"".join(lines.splitlines(keepends=True)[:1]))
    files[-1].write_bytes(other)
    with pytest.raises(LogProofInvalid, match="is not what"):
        archive_log(log, Folder(archive), KEYS, ())
    put_back()
    log.write_bytes(lines.replace(b'"version":2', b'"version":3', 1))
    with pytest.raises(LogProofInvalid, match="begins otherwise"):
        verify_file(Archived(Folder(archive), log), keys=KEYS)
    log.write_bytes(b"".join(lines.splitlines(keepends=True)[:6]))
    with pytest.raises(LogProofInvalid, match="ends before the archive"):
        verify_file(Archived(Folder(archive), log), keys=KEYS)
    with pytest.raises(LogProofInvalid, match="cut off, or is an older copy"):
        archive_log(log, Folder(archive), KEYS, ())


def test_a_frame_that_would_fill_the_memory_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / Segment(0, 0).name).write_bytes(zstandard.ZstdCompressor().compress(bytes(1 << 28)))
    assert verify_file(Archived(Folder(tmp_path)), keys=KEYS).size == 0


def test_a_governor_is_archived_while_it_runs(tmp_path: Path, store: Store) -> None:
    with Governor(tmp_path / "g") as governor:
        assert governor.register(OTHER_SIGNER).status == 201
        environment = governor.environment | store.environment()

        def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [*SAFEAI, "audit", *arguments], env=environment, capture_output=True, timeout=PATIENCE
            )

        done = run("archive", "s3://bucket")
        assert (done.returncode, b"1 segments were written; the archive holds 3 entries" in done.stdout) == (
            0,
            True,
        ), done
        done = run("--verify", "--archive", "s3://bucket")
        assert (done.returncode, b"CONSISTENT" in done.stdout) == (0, True), done
        governor.stop()
        log = governor.folder / "audit.log"
        kept = log.read_bytes()
        log.write_bytes(kept[: len(kept) // 2])
        done = run("--verify", "--archive", "s3://bucket")
        assert (done.returncode, b"ends before the archive" in done.stderr) == (2, True), done
        log.unlink()
        done = run("archive", "s3://bucket", "--restore", str(log))
        assert done.returncode == 0, done
        assert kept.startswith(log.read_bytes())
        with governor:
            assert governor.ask("GET", "/livez", token=None).status == 200
        done = run("archive", "s3://UPPER/x")
        assert (done.returncode, b"not an address in an object store" in done.stderr) == (2, True), done
        store.shutdown()
        store.server_close()
        done = run("archive", "s3://bucket")
        assert (done.returncode, b"the object store refused, or did not answer" in done.stderr) == (
            3,
            True,
        ), done
