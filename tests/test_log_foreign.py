"""Other people's readers judge what we write: Go's x/mod and transparency-dev/merkle, and tlog-scales where it is there."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from tools_governor import Governor
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, leaves, nodes_of, root_of

from safeai_git.audit_proofs import export_tiles
from safeai_git.core.errors import LogProofInvalid
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.merkle import (
    consistency_path,
    inclusion_path,
    root,
    verify_consistency,
    verify_inclusion,
)
from safeai_git.core.log.proof import LogProof
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.signer import load_signer

FOREIGN = Path(__file__).parent / "foreign"
SIZES = [1, 255, 256, 257, 1000, 70_000]
NOW = 1_767_323_045_678


@pytest.fixture(scope="module")
def go_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program of ``tests/foreign``, built."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is needed to build the foreign judge of tests/foreign")
    program = tmp_path_factory.mktemp("go") / "judge"
    done = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=FOREIGN,
        env=os.environ | {"GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode != 0:
        pytest.skip(f"the foreign judge cannot be built here: {done.stderr.strip()[-300:]}")
    return program


def ask(program: Path, question: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([program], input=json.dumps(question).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def text(hashes: list[bytes] | tuple[bytes, ...]) -> list[str]:
    return [b64encode(one).decode() for one in hashes]


class Growing:
    """A log that grows from one size to the next, exported as static tiles at each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir()
        self.store = FileStore.open_folder(folder / "data", Identity(ORIGIN, (LOG_KEY,), verify), reserve=0)
        self.roots: dict[int, bytes] = {}

    def grow(self, size: int) -> None:
        while self.store.size < size:
            begin = self.store.size
            drafts = [
                Draft.of_data("policy", f"id-{number}", {"number": number})
                for number in range(begin, min(size, begin + 1000))
            ]
            appended = self.store.append(drafts, NOW)
        note = LogSigner(ORIGIN, [LOG_SIGNER]).sign(appended.size, appended.root)
        self.store.publish(note, appended.size)
        self.roots[size] = appended.root

    def export(self) -> Path:
        tiles = self.folder / f"tiles-{self.store.size}"
        export_tiles(self.folder / "data" / "audit.log", tiles, [LOG_KEY])
        return tiles


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Growing, dict[int, Path]]:
    log = Growing(tmp_path_factory.mktemp("growing"))
    folders = {}
    for size in SIZES:
        log.grow(size)
        folders[size] = log.export()
    return log, folders


@pytest.mark.parametrize("size", SIZES)
def test_gos_reader_accepts_the_log(
    go_judge: Path, exported: tuple[Growing, dict[int, Path]], size: int
) -> None:
    """Its root from our tiles, its proof of each entry, our proofs of some entries and from every older size."""
    log, folders = exported
    node = log.store.node
    assert root(size, node) == log.roots[size]
    some = sorted({0, size // 3, size // 2, size - 1})
    older = [old for old in {*SIZES, size // 2, size - 1} if 0 < old < size]
    found = ask(
        go_judge,
        {
            "folder": str(folders[size]),
            "vkey": LOG_KEY.format(),
            "every": 1 if size <= 1000 else 37,
            "inclusion": [{"index": at, "proof": text(inclusion_path(at, size, node))} for at in some],
            "consistency": [
                {
                    "old": old,
                    "root": text([root(old, node)])[0],
                    "proof": text(consistency_path(old, size, node)),
                }
                for old in older
            ],
        },
    )
    assert found["Size"] == size
    assert found["Entries"] >= min(size, 1000)


def test_gos_reader_accepts_a_running_governor(go_judge: Path, tmp_path: Path) -> None:
    """Over HTTP, at each of the sizes; a Governor's own log begins with two entries."""
    governor = Governor(tmp_path / "governor")
    with governor:
        first = json.loads((governor.folder / "audit.log").read_bytes().split(b"\n")[0])["data"]
        governor.stop()
    signer = LogSigner(first["origin"], [load_signer(governor.folder / "keys" / "ed25519.default.sk")])
    for size in (2, *SIZES[1:]):
        log = open_file_log(governor.folder, signer, reserve=0, most_waiting=100_000)
        there = log.store.size
        log.submit([Draft.of_data("incident", f"n{at}", {"n": at}) for at in range(there, size)]).wait()
        log.close()
        with governor:
            question = {
                "folder": f"{governor.url}/log",
                "token": governor.token("log:read"),
                "vkey": first["keys"][0],
                "every": 1 if size <= 1000 else 3701,
            }
            found = ask(go_judge, question)
            governor.stop()
        assert found["Size"] == size
        assert found["Entries"] >= (size if size <= 1000 else size // 3701)


def test_gos_reader_refuses_a_log_that_was_changed(
    go_judge: Path, exported: tuple[Growing, dict[int, Path]], tmp_path: Path
) -> None:
    """So that the judge can be seen to judge."""
    folder = shutil.copytree(exported[1][257], tmp_path / "changed")
    for name in ("checkpoint", "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000"):
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes([*good[:-20], good[-20] ^ 1, *good[-19:]]))
        question = {"folder": str(folder), "vkey": LOG_KEY.format(), "every": 1}
        done = subprocess.run([go_judge], input=json.dumps(question).encode(), capture_output=True)
        assert done.returncode == 1, name
        (folder / name).write_bytes(good)
    assert ask(go_judge, question)["Entries"] == 257


def test_right_and_wrong_proofs_are_judged_alike(go_judge: Path) -> None:
    """Proofs with a fault each, judged by transparency-dev/merkle and by us."""
    chance = random.Random(6962)
    cases: list[dict[str, Any]] = []
    ours: list[bool] = []

    def ask_both(kind: str, **case: Any) -> None:
        try:
            if kind == "inclusion":
                verify_inclusion(case["leaf"], case["index"], case["size"], case["proof"], case["root"])
            else:
                verify_consistency(case["old"], case["size"], case["proof"], case["oldRoot"], case["root"])
            ours.append(True)
        except LogProofInvalid:
            ours.append(False)
        shown = {key: text([one])[0] if isinstance(one, bytes) else one for key, one in case.items()}
        cases.append({"kind": kind, **shown, "proof": text(case["proof"])})

    def faults(path: list[bytes]) -> list[list[bytes]]:
        other = chance.randbytes(32)
        made = [path, [*path, other], [other, *path], path[1:], path[:-1], path[::-1], []]
        if path:
            at = chance.randrange(len(path))
            made.append([*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]])
            made.append([*path[:at], path[at], *path[at:]])
        return made

    for size in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 100, 255, 256, 257]:
        hashes = leaves(size)
        nodes = nodes_of(hashes)
        top = root_of(hashes)
        for index in {0, size // 2, size - 1, chance.randrange(size)}:
            for path in faults(inclusion_path(index, size, nodes)):
                for place in (index, index + 1, index ^ 1):
                    for total in (size, size + 1, 2 * size):
                        ask_both(
                            "inclusion", leaf=hashes[index], index=place, size=total, proof=path, root=top
                        )
        for old in {1, size // 2, size - 1, size} - {0}:
            old_root = root_of(hashes[:old])
            for path in faults(consistency_path(old, size, nodes)):
                for first, second in ((old_root, top), (top, old_root), (top, top)):
                    for total in (size, size + 1):
                        ask_both("consistency", old=old, size=total, proof=path, oldRoot=first, root=second)
    valid = ask(go_judge, {"cases": cases})["Valid"]
    assert len(valid) == len(ours) > 3000
    assert 50 < sum(ours) < len(ours) // 2
    different = [case for case, their, our in zip(cases, valid, ours, strict=True) if their != our]
    assert different == []


def test_tlog_scales_reads_the_log_and_makes_the_same_proof(
    exported: tuple[Growing, dict[int, Path]],
) -> None:
    pytest.importorskip("tlog_scales", reason="tlog-scales is not installed; it is the second foreign reader")
    from tlog_scales import tiles
    from tlog_scales.backend import LocalBackend
    from tlog_scales.reader import TilesReader

    log, folders = exported
    for size in SIZES:
        reader = TilesReader(LocalBackend(folders[size]))
        checkpoint = reader.get_checkpoint()
        assert (checkpoint.size, checkpoint.root_hash) == (size, log.roots[size])
        assert reader.calculate_root_hash() == log.roots[size]
        for index in {0, min(333, size - 1), size - 1}:
            entry = reader.get_entry(index)
            assert entry == log.store.entry(index)
            theirs = reader.get_inclusion_proof(index, size)
            theirs.check(tiles.leaf_hash(entry), checkpoint.root_hash)
            assert list(theirs.node_hashes) == inclusion_path(index, size, log.store.node)
            ours = LogProof(index, tuple(theirs.node_hashes), checkpoint.serialize().encode())
            assert ours.checkpoint == (folders[size] / "checkpoint").read_bytes()
