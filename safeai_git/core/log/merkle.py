"""The Merkle tree of RFC 6962 §2.1: hashes, proofs and their verification.

A tree over leaves 0 … size-1 is never padded. A *node* (level, index) is a complete subtree: the 2^level leaves from
index·2^level on. Whoever asks for a proof hands in a function that knows the nodes; this module keeps none but those
of a `Frontier`, the right edge of a growing tree. Verification follows RFC 9162 §2.1.3.2 and §2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from safeai_git.core.errors import LogProofInvalid

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves."""

HASH_BYTES = 32

Nodes = Callable[[int, int], bytes]
"""``nodes(level, index)``: the 32-byte hash of a complete subtree."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a growing tree: enough to append and to know the root, in 32·log2(size) bytes.

    Attributes:
        size: Leaves so far.
        edge: Hashes of the complete subtrees that the tree falls into, largest first: one for each bit of `size`.

    Raises:
        ValueError: The edge does not fit the size.
    """

    size: int = 0
    edge: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.edge) != self.size.bit_count() or any(len(one) != HASH_BYTES for one in self.edge):
            raise ValueError(f"an edge of {len(self.edge)} hashes is not that of a tree of size {self.size}")

    def copy(self) -> Frontier:
        """An independent copy."""
        return Frontier(self.size, list(self.edge))

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        edge, size = self.edge, self.size
        while size & 1:
            leaf = sha256(b"\x01" + edge.pop() + leaf).digest()
            size >>= 1
        edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree."""
        return _fold(self.edge)

    def nodes(self) -> dict[tuple[int, int], bytes]:
        """The edge's hashes by (level, index)."""
        found: dict[tuple[int, int], bytes] = {}
        for level, index in _parts(0, self.size):
            found[level, index] = self.edge[len(found)]
        return found


def grown(before: Frontier, leaves: Iterable[bytes]) -> Nodes:
    """The nodes of a tree as far as its old edge and the leaves added to it tell: enough to prove those leaves.

    Args:
        before: The edge before they were added.
        leaves: Their hashes, in order.

    Returns:
        A `Nodes` that raises `KeyError` for what lies left of the old edge.
    """
    known = before.nodes()
    at = before.size
    for leaf in leaves:
        known[0, at] = leaf
        level, index = 0, at
        while index & 1:
            leaf = node_hash(known[level, index - 1], leaf)  # noqa: PLW2901 - the subtree that it completes
            level, index = level + 1, index >> 1
            known[level, index] = leaf
        at += 1
    return lambda level, index: known[level, index]


def root(size: int, nodes: Nodes) -> bytes:
    """The root of the tree of a size."""
    return _fold([nodes(level, index) for level, index in _parts(0, size)])


def frontier_of(size: int, nodes: Nodes) -> Frontier:
    """The right edge of the tree of a size."""
    return Frontier(size, [nodes(level, index) for level, index in _parts(0, size)])


def inclusion_path(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Prove that a leaf is in a tree: the hashes from its sibling up to the root's child (RFC 6962 §2.1.1).

    Raises:
        ValueError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of size {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        split = begin + _split(end - begin)
        if index < split:
            path.append(_range(split, end, nodes))
            end = split
        else:
            path.append(_range(begin, split, nodes))
            begin = split
    return path[::-1]


def consistency_path(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """Prove that a tree is the beginning of a larger one (RFC 6962 §2.1.2); empty for size 0 and for equal sizes.

    Raises:
        ValueError: The old size is the larger one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of size {old} is not the beginning of one of size {new}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    begin, end = 0, new
    while end != old:
        split = begin + _split(end - begin)
        if old <= split:
            path.append(_range(split, end, nodes))
            end = split
        else:
            path.append(_range(begin, split, nodes))
            begin = split
    if begin:
        path.append(_range(begin, end, nodes))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> None:
    """Check the proof that a leaf is in a tree.

    Args:
        leaf: The leaf's hash.
        index: Its place, from 0.
        size: The tree's size.
        path: The proof.
        expected: The tree's root.

    Raises:
        LogProofInvalid: It is not proven.
    """
    if not 0 <= index < size:
        raise LogProofInvalid(f"there is no leaf {index} in a tree of size {size}")
    _need_hashes(leaf, expected, *path)
    here, last, seen = index, size - 1, leaf
    for one in path:
        if last == 0:
            raise LogProofInvalid(f"the proof of leaf {index} is too long for a tree of size {size}")
        if here & 1 or here == last:
            seen = node_hash(one, seen)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            seen = node_hash(seen, one)
        here, last = here >> 1, last >> 1
    if last:
        raise LogProofInvalid(f"the proof of leaf {index} is too short for a tree of size {size}")
    if seen != expected:
        raise LogProofInvalid(
            f"leaf {index} is not in the tree of size {size}: the proof leads to another root"
        )


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check the proof that a tree is the beginning of a larger one.

    Raises:
        LogProofInvalid: It is not proven.
    """
    if not 0 <= old <= new:
        raise LogProofInvalid(f"a tree of size {old} is not the beginning of one of size {new}")
    _need_hashes(*path)
    if old != new:
        _need_hashes(old_root, new_root)
    if old in (0, new):
        if path:
            raise LogProofInvalid(
                f"sizes {old} and {new} need no proof, and one of {len(path)} hashes was given"
            )
        if old_root != (new_root if old else EMPTY_ROOT) or (not new and new_root != EMPTY_ROOT):
            raise LogProofInvalid(f"two roots are given for the tree of size {old}")
        return
    if not path:
        raise LogProofInvalid(f"the proof from size {old} to {new} is missing")
    # Where the old tree is one complete subtree, its root is where the proof starts.
    first = [] if old & (old - 1) else [old_root]
    hashes = [*first, *path]
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    from_old = from_new = hashes[0]
    for one in hashes[1:]:
        if last == 0:
            raise LogProofInvalid(f"the proof from size {old} to {new} is too long")
        if here & 1 or here == last:
            from_old, from_new = node_hash(one, from_old), node_hash(one, from_new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            from_new = node_hash(from_new, one)
        here, last = here >> 1, last >> 1
    if last:
        raise LogProofInvalid(f"the proof from size {old} to {new} is too short")
    if from_old != old_root or from_new != new_root:
        which = "the old" if from_old != old_root else "the new"
        raise LogProofInvalid(
            f"the tree of size {old} is not the beginning of that of size {new}: the proof leads to another root for {which} one"
        )


def _need_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise LogProofInvalid(f"a hash of a proof, a leaf and a root have {HASH_BYTES} bytes")


def _split(count: int) -> int:
    """The largest power of two below a count of two or more."""
    return 1 << ((count - 1).bit_length() - 1)


def _parts(begin: int, end: int) -> Iterable[tuple[int, int]]:
    """The complete subtrees that a range falls into, from the left; `begin` is a multiple of the first one's size."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield level, begin >> level
        begin += 1 << level


def _range(begin: int, end: int, nodes: Nodes) -> bytes:
    return _fold([nodes(level, index) for level, index in _parts(begin, end)])


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    result = hashes[-1]
    for one in reversed(hashes[:-1]):
        result = node_hash(one, result)
    return result
