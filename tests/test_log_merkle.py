"""RFC 6962 trees: published roots, every small tree against the definition, proofs and what is no proof."""

from __future__ import annotations

import itertools
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools_log import leaves, nodes_of, plain_root, root_of

from safeai_git.core.errors import LogProofInvalid
from safeai_git.core.log import merkle
from safeai_git.core.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    grown,
    inclusion_path,
    verify_consistency,
    verify_inclusion,
)

# Two other implementations (Go's x/mod and tlog-scales) gave the same roots for these entries.
PUBLISHED_ROOTS = {
    0: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    1: "MtwpA7aKoCxVr5Rnek8nb1uruY5DpOL2C7ZLOos0A/U=",
    2: "20u3Ek4yUewFdxu5rUYcen0vTZN8YF//7pzZS6fGr3k=",
    7: "NZq173Ytm7JMChwQUYqc7UevAcCjK8Hy7k1pFtLRA6c=",
    255: "oE31CK9XU3DzWvbBJqMXiqCA18UpklWVPxySgHsAwRQ=",
    256: "YijgGKaPlAdOq+hjXfDGHeQt7+idgVTF76EoPc+TWu4=",
    257: "71MGIyCKl68gmF3jSBLRPdaGbFGx9FcWWcg6bCvkkR0=",
    1000: "ldTWBVbY0xdwQ8XM+eGZjiAPWDR3fN4SPkrZpCbA+Ig=",
    70000: "nL+RiCKppS4COO36pWsb5LhweMu/4eZE3WHyHHVK6Ho=",
}
SIZES = list(range(1, 34))


def refused(call: object, *arguments: object) -> bool:
    try:
        call(*arguments)  # type: ignore[operator]
    except LogProofInvalid:
        return True
    return False


@pytest.mark.parametrize("size", PUBLISHED_ROOTS)
def test_roots_are_the_published_ones(size: int) -> None:
    assert b64encode(root_of(leaves(size))).decode() == PUBLISHED_ROOTS[size]


def test_a_path_is_the_published_one() -> None:
    path = inclusion_path(2, 7, nodes_of(leaves(7)))
    assert [b64encode(one).decode() for one in path] == [
        "tTA06jTY3fie3dzRlGNFbKFEbIDRzseDTbysiRQfLLA=",
        "20u3Ek4yUewFdxu5rUYcen0vTZN8YF//7pzZS6fGr3k=",
        "pdcULeEHsInEHAzzM1YCt5YSSBhoYCm68Qs7vNkOKAs=",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_every_small_tree_is_proven(size: int) -> None:
    hashes = leaves(size)
    root = plain_root(hashes)
    nodes = nodes_of(hashes)
    assert merkle.root(size, nodes) == root_of(hashes) == root
    for index in range(size):
        path = inclusion_path(index, size, nodes)
        verify_inclusion(hashes[index], index, size, path, root)
        for other in range(size + 2):
            assert other == index or refused(verify_inclusion, hashes[index], other, size, path, root)


@pytest.mark.parametrize("new", SIZES)
def test_every_small_tree_is_consistent_with_its_beginnings(new: int) -> None:
    hashes = leaves(new)
    nodes = nodes_of(hashes)
    roots = [plain_root(hashes[:size]) for size in range(new + 1)]
    for old in range(new + 1):
        path = consistency_path(old, new, nodes)
        verify_consistency(old, new, path, roots[old], roots[new])
        for wrong in range(new):
            assert wrong == old or refused(verify_consistency, old, new, path, roots[wrong], roots[new])


@given(st.integers(0, 600), st.integers(1, 300))
def test_what_was_added_is_proven_from_the_edge_alone(before: int, added: int) -> None:
    hashes = leaves(before + added)
    edge = Frontier()
    for one in hashes[:before]:
        edge.append(one)
    nodes = grown(edge, hashes[before:])
    root = root_of(hashes)
    assert merkle.root(before + added, nodes_of(hashes)) == root
    for index in {before, before + added // 2, before + added - 1}:
        path = inclusion_path(index, before + added, nodes)
        assert path == inclusion_path(index, before + added, nodes_of(hashes))
        verify_inclusion(hashes[index], index, before + added, path, root)


def test_an_edge_that_does_not_fit_is_refused() -> None:
    for size, edge in [(1, []), (0, [bytes(32)]), (2, [bytes(31)]), (3, [bytes(32)])]:
        with pytest.raises(ValueError, match="is not that of a tree"):
            Frontier(size, edge)
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_path(3, 3, nodes_of(leaves(3)))
    with pytest.raises(ValueError, match="not the beginning"):
        consistency_path(4, 3, nodes_of(leaves(3)))


def mutations(path: list[bytes], extra: bytes) -> list[list[bytes]]:
    """Paths that are wrong for whatever `path` proves: flipped, cut, longer at either end, swapped, odd lengths."""
    changed = [[*path[:at], bytes([one[0] ^ 1]) + one[1:], *path[at + 1 :]] for at, one in enumerate(path)]
    changed += [path[:at] + path[at + 1 :] for at in range(len(path))]
    changed += [[*path[:at], extra, *path[at:]] for at in range(len(path) + 1)]
    changed += [
        [*path[:at], path[at + 1], path[at], *path[at + 2 :]]
        for at in range(len(path) - 1)
        if path[at] != path[at + 1]
    ]
    changed += [[*path[:-1], path[-1][:31]], [*path[:-1], path[-1] + b"\0"]] if path else []
    return changed


@given(st.integers(1, 400), st.data())
def test_a_changed_proof_of_a_leaf_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    root = root_of(hashes)
    path = inclusion_path(index, size, nodes_of(hashes))
    verify_inclusion(hashes[index], index, size, path, root)
    for wrong in mutations(path, root) + mutations(path, bytes(32)):
        assert refused(verify_inclusion, hashes[index], index, size, wrong, root)
    assert refused(verify_inclusion, bytes(32), index, size, path, root)
    assert refused(verify_inclusion, hashes[index], index, size, path, bytes(32))
    for other in (index - 1, index + 1, index ^ 2, size, -1):
        assert refused(verify_inclusion, hashes[index], other, size, path, root)
    assert refused(verify_inclusion, hashes[index], index, 2 * size, path, root)


@given(st.integers(2, 400), st.data())
def test_a_changed_proof_of_consistency_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    hashes = leaves(new)
    old_root, new_root = root_of(hashes[:old]), root_of(hashes)
    path = consistency_path(old, new, nodes_of(hashes))
    verify_consistency(old, new, path, old_root, new_root)
    for wrong in [*mutations(path, new_root), *mutations(path, old_root), []]:
        assert refused(verify_consistency, old, new, wrong, old_root, new_root)
    assert refused(verify_consistency, old, new, path, new_root, old_root)
    assert refused(verify_consistency, new, old, path, old_root, new_root)
    assert refused(verify_consistency, old, new, path, bytes(32), new_root)
    assert refused(verify_consistency, old, new, path, old_root, bytes(32))


def test_the_borders_of_consistency() -> None:
    one = root_of(leaves(1))
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    verify_consistency(0, 1, [], EMPTY_ROOT, one)
    verify_consistency(1, 1, [], one, one)
    for arguments in [
        (0, 0, [], one, one),
        (0, 1, [], one, one),
        (0, 1, [one], EMPTY_ROOT, one),
        (1, 1, [], one, EMPTY_ROOT),
        (1, 1, [one], one, one),
        (1, 2, [], one, one),
        (0, 1, [], EMPTY_ROOT, one[:31]),
        (2, 3, [one], b"", b""),
    ]:
        assert refused(verify_consistency, *arguments), arguments
    assert refused(verify_inclusion, b"", 0, 1, [], b"")


VECTORS = Path(__file__).parent / "data" / "merkle"


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_the_vectors_of_transparency_dev_are_judged_alike(kind: str) -> None:
    cases = json.loads((VECTORS / f"{kind}.json").read_text())
    assert len(cases) == 98
    assert {case["wantErr"] for case in cases.values()} == {True, False}
    for name, case in cases.items():
        path = [b64decode(one) for one in case["proof"] or []]
        if kind == "inclusion":
            leaf, root = b64decode(case["leafHash"] or ""), b64decode(case["root"] or "")
            found = refused(verify_inclusion, leaf, case["leafIdx"], case["treeSize"], path, root)
        else:
            roots = [b64decode(case[one] or "") for one in ("root1", "root2")]
            found = refused(verify_consistency, case["size1"], case["size2"], path, *roots)
        assert found == case["wantErr"], name


def test_every_pair_of_sizes_is_proven_both_ways() -> None:
    hashes = leaves(70)
    nodes = nodes_of(hashes)
    for old, new in itertools.combinations([1, 2, 3, 31, 32, 33, 63, 64, 65, 70], 2):
        verify_consistency(
            old, new, consistency_path(old, new, nodes), root_of(hashes[:old]), root_of(hashes[:new])
        )
