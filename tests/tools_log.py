"""What the tests of the audit log share: keys from fixed seeds, logs of a given size, a tree to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.merkle import Frontier, Nodes, leaf_hash, node_hash
from safeai_git.core.log.note import COSIGNATURE, ED25519, Note, NoteKey, NoteSignature
from safeai_git.keys.ed25519 import Ed25519Signer

ORIGIN = "governor.example/safeai-audit"
WITNESS = "witness.example/w1"
WITNESS_TIME = 1_753_000_000

LOG_SIGNER = Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS_SIGNER = Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))
OTHER_SIGNER = Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96))))

LOG_KEY = NoteKey(ORIGIN, ED25519, LOG_SIGNER.public.raw)
WITNESS_KEY = NoteKey(WITNESS, COSIGNATURE, WITNESS_SIGNER.public.raw)


def leaves(size: int) -> list[bytes]:
    """The leaf hashes of a log with the entries of the published vectors."""
    return [leaf_hash(b'{"seq":%d,"verdict":"allow"}' % at) for at in range(size)]


def nodes_of(hashes: Sequence[bytes]) -> Nodes:
    """The nodes of a tree, each computed once from its leaves, level by level."""
    rows = [list(hashes)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return lambda level, index: rows[level][index]


def plain_root(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word for word."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\x01" + plain_root(hashes[:k]) + plain_root(hashes[k:])).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    frontier = Frontier()
    for one in hashes:
        frontier.append(one)
    return frontier.root()


def signed(text: str, signer: Ed25519Signer = LOG_SIGNER, key: NoteKey = LOG_KEY) -> Note:
    """A note signed by a log's key."""
    return Note(text, (NoteSignature(key.name, key.id, signer.sign(text.encode())),))


def checkpoint(size: int, hashes: Sequence[bytes] | None = None, origin: str = ORIGIN) -> bytes:
    """A checkpoint of the log with the entries of the published vectors, signed by its key."""
    root = root_of(leaves(size) if hashes is None else hashes[:size])
    key = NoteKey(origin, ED25519, LOG_SIGNER.public.raw)
    return signed(Checkpoint(origin, size, root).format(), key=key).format()
