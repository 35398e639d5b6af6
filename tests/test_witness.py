"""The witness: it cosigns what only grew, once and durably, and nothing else."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tools_cli import PATIENCE, free_port
from tools_log import (
    LOG_KEY,
    ORIGIN,
    OTHER_SIGNER,
    WITNESS,
    WITNESS_KEY,
    WITNESS_SIGNER,
    WITNESS_TIME,
    checkpoint,
    leaves,
    nodes_of,
    signed,
)

from safeai_git.core.errors import StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.merkle import consistency_path
from safeai_git.core.log.note import Note, NoteSignature
from safeai_git.governor.witness import MOST_BODY, SIZE_TYPE, Reply, Witness
from safeai_git.keys.ed25519 import verify

DIGEST = sha256(ORIGIN.encode()).hexdigest()
ROOT = Path(__file__).parent.parent


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    made = Witness(tmp_path, WITNESS, [LOG_KEY], WITNESS_SIGNER, lambda: WITNESS_TIME)
    yield made
    made.close()


def request(old: int, new: int, note: bytes = b"", path: list[bytes] | None = None) -> bytes:
    if path is None:
        path = consistency_path(old, new, nodes_of(leaves(new))) if 0 < old < new else []
    lines = [f"old {old}", *(base64.encode(one) for one in path), "", ""]
    return "\n".join(lines).encode() + (note or checkpoint(new))


def cosigned(reply: Reply, note: bytes) -> bool:
    """Whether an answer is a cosignature of this witness over a checkpoint."""
    assert reply.status == 200, reply
    whole = Note.parse(note + reply.body)
    return whole.check([LOG_KEY, WITNESS_KEY], verify) == (LOG_KEY, WITNESS_KEY)


def test_a_log_that_grows_is_cosigned_step_by_step(witness: Witness) -> None:
    assert witness.checkpoint(DIGEST) is None
    old = 0
    for new in (0, 1, 1, 7, 8, 8, 255, 257):
        assert cosigned(witness.add_checkpoint(request(old, new)), checkpoint(new))
        kept = witness.checkpoint(DIGEST)
        assert kept is not None
        assert Checkpoint.parse(Note.parse(kept).text).size == new
        old = new
    assert witness.checkpoint("0" * 64) is None


def test_the_published_vector(witness: Witness) -> None:
    line = "— witness.example/w1 IDJKvgAAAABofKhAdXrF1koaibyI8gHHZgfgrgm6G1mGJH3dCgSMHl8tNUh7taXXHkvXDhNErDa3m42ByS7cAOwH26+5IxxzHLg+DA==\n"
    assert witness.add_checkpoint(request(0, 7)).body.decode() == line


def test_B85_everything_else_is_refused_and_changes_nothing(witness: Witness) -> None:
    assert witness.add_checkpoint(request(0, 5)).status == 200
    fork = [*leaves(4), *leaves(20)[10:14]]
    text = Note.parse(checkpoint(8)).text
    table = [
        (409, request(0, 8)),
        (409, request(4, 8)),
        (409, request(6, 8)),
        (400, request(9, 8)),
        (422, request(5, 8, path=[])),
        (422, request(5, 8, path=[bytes(32)])),
        (422, request(5, 8, checkpoint(8, fork), consistency_path(5, 8, nodes_of(fork)))),
        (422, request(5, 5, checkpoint(5, leaves(20)[10:15]))),
        (422, request(5, 5, path=[bytes(32)])),
        (404, request(5, 8, checkpoint(8, origin="another.example/log"))),
        (403, request(5, 8, signed(text, OTHER_SIGNER).format())),
        (400, request(5, 8, path=[bytes(32)] * 64)),
        (400, b""),
        (400, b"old 5\n\n"),
        (400, b"old 05\n\n" + checkpoint(8)),
        (400, b"old -1\n\n" + checkpoint(8)),
        (400, b"old 5\nAAAA\n\n" + checkpoint(8)),
        (400, b"new 5\n\n" + checkpoint(8)),
        (400, b"\xff\n\n" + checkpoint(8)),
        (400, b"old 5\n\n" + b"x" * MOST_BODY),
        (400, request(5, 8, checkpoint(8).replace(b"\n", b"\r\n"))),
    ]
    before = witness.checkpoint(DIGEST)
    for status, body in table:
        reply = witness.add_checkpoint(body)
        assert reply.status == status, (status, reply, body[:80])
        if status == 409:
            assert (reply.body, reply.media_type) == (b"5\n", SIZE_TYPE)
    assert witness.checkpoint(DIGEST) == before
    assert cosigned(witness.add_checkpoint(request(5, 8)), checkpoint(8))


def test_a_line_in_our_name_that_does_not_hold_spoils_nothing(witness: Witness) -> None:
    """Kept with the rest, it would make what was kept unreadable, and the witness of no use for that log."""
    wrong = NoteSignature(WITNESS_KEY.name, WITNESS_KEY.id, bytes(72)).format().encode()
    stranger = NoteSignature("someone.example", bytes(4), bytes(8)).format().encode()
    assert witness.add_checkpoint(request(0, 3, checkpoint(3) + wrong + stranger)).status == 200
    assert cosigned(witness.add_checkpoint(request(3, 5)), checkpoint(5))
    assert cosigned(witness.add_checkpoint(request(5, 5, checkpoint(5) + wrong)), checkpoint(5))
    kept = witness.checkpoint(DIGEST)
    assert kept is not None
    assert [one.name for one in Note.parse(kept).signatures] == [ORIGIN, WITNESS]


def test_B85_of_two_forks_at_once_one_is_cosigned(witness: Witness) -> None:
    bodies = []
    for number in range(8):
        hashes = [*leaves(4), *leaves(100)[10 * number + 10 : 10 * number + 14]]
        bodies.append(request(0, 8, checkpoint(8, hashes)))
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda body=body: replies.append(witness.add_checkpoint(body).status))
        for body in bodies
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(replies) == [200, *[409] * 7]


@pytest.mark.parametrize("data", [b"", b"garbage", b"older"])
def test_what_was_kept_and_is_damaged_is_not_taken_for_nothing(
    witness: Witness, tmp_path: Path, data: bytes
) -> None:
    witness.add_checkpoint(request(0, 5))
    place = next(tmp_path.glob("*.checkpoint"))
    place.write_bytes(checkpoint(3) if data == b"older" else data)
    for body in (request(0, 8), request(3, 8), request(5, 8)):
        with pytest.raises(StorageError, match="is damaged"):
            witness.add_checkpoint(body)


def test_two_witnesses_do_not_share_a_folder(witness: Witness, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="another witness"):
        Witness(tmp_path, WITNESS, [LOG_KEY], WITNESS_SIGNER)


def test_a_witness_that_was_killed_knows_what_it_cosigned(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    program = [sys.executable, "-c", "from safeai_git.admin import main; main()"]
    subprocess.run(
        [*program, "keys", "generate", "--data-dir", str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
    )
    port = free_port()
    command = [
        *program,
        "witness",
        "--name",
        WITNESS,
        "--log",
        LOG_KEY.format(),
        "--data-dir",
        str(tmp_path),
        "--port",
        str(port),
    ]

    def ask(method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        for _ in range(int(PATIENCE * 50)):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                connection.request(method, path, body)
                answer = connection.getresponse()
                found = answer.status, answer.read()
                connection.close()
            except ConnectionRefusedError:
                threading.Event().wait(0.02)
                continue
            return found
        raise AssertionError("it does not listen")

    for last in (False, True):
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            if not last:
                assert ask("POST", "/add-checkpoint", request(0, 5))[0] == 200
                assert ask("POST", "/add-checkpoint", b"x" * (MOST_BODY + 1))[0] == 413
                assert ask("GET", "/add-checkpoint")[0] == 405
            else:
                assert ask("POST", "/add-checkpoint", request(0, 8)) == (409, b"5\n")
                status, kept = ask("GET", f"/{DIGEST}/checkpoint")
                assert (status, Note.parse(kept).text) == (200, Note.parse(checkpoint(5)).text)
        finally:
            child.send_signal(signal.SIGTERM if last else signal.SIGKILL)
            child.wait(PATIENCE)
