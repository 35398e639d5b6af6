"""The ways in which a built attack meets the product, derived from its commits.

``staged``: the proposed tree becomes the index. ``range``: the commits. ``patch``: the difference as a patch.
``pre-push`` and ``pre-receive``: the hooks; a real push for at least one attack of each row. Wherever git itself refuses to go along, its refusal is the
outcome.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from safeai_git import __main__ as program
from safeai_git.commands.session import Session
from safeai_git.commands.trust_root import endpoints
from safeai_git.core.errors import SafeAIError, WrongUse
from safeai_git.gate import Judgement, worst

from .bench import POLICY, Bench, GitRefused
from .model import ATTACKS, PATCH, PRE_PUSH, PRE_RECEIVE, RANGE, STAGED, Attack, Case

AGENT = "claude-code"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attack in one mode.

    Attributes:
        decision: Empty where there is none.
        rules, paths: Of all findings.
        message: Of the error, with its hint.
        refused: Git's own refusal, where the product was never asked.
        code: The exit code that belongs to it.
        printed: Everything that the command line wrote.
    """

    decision: str = ""
    rules: frozenset[str] = frozenset()
    paths: frozenset[bytes] = frozenset()
    message: str = ""
    refused: str = ""
    code: int = 0
    printed: bytes = b""


@dataclass(frozen=True, slots=True)
class Built:
    """An attack on disk."""

    attack: Attack
    bench: Bench
    case: Case

    @property
    def folder(self) -> Path:
        """The repository that is judged."""
        return self.bench.place / self.case.clone if self.case.clone else self.bench.path


def build(attack: Attack, place: Path) -> Built:
    """Build an attack below a folder of its own."""
    bench = Bench(place, POLICY if attack.policy is None else attack.policy)
    case = attack.build(bench)
    bench.git("update-ref", "refs/heads/topic", case.head)
    bench.git("update-ref", "refs/remotes/origin/main", case.base)
    return Built(attack, bench, case)


def in_process(built: Built, mode: str) -> Outcome:
    """Ask the gate itself."""
    session = Session(built.folder, built.bench.environ)
    gate = session.gate(agent=AGENT if mode != RANGE else "", replay=False)
    try:
        if mode == STAGED:
            _stage(built)
            return _outcome([gate.staged()])
        if mode == PATCH:
            return _outcome([gate.patch(patch_of(built), built.case.base)])
        return _outcome(list(gate.range(*endpoints(session, "..".join(words(built.case))))))
    except GitRefused as error:
        return Outcome(refused=str(error))
    except SafeAIError as error:
        return Outcome(message=f"{error.message}; {error.hint}", code=2 if isinstance(error, WrongUse) else 3)
    finally:
        session.close()


def command_line(built: Built, mode: str) -> Outcome:
    """Go through the command line: arguments in, exit code and text out. Only the interpreter's start is spared."""
    common = ["check", "--no-sign", "--no-replay"]
    try:
        if mode == STAGED:
            _stage(built)
            return _run(built, [*common, "--agent", AGENT])
        if mode == PATCH:
            place = built.bench.place / "change.patch"
            place.write_bytes(patch_of(built))
            return _run(built, [*common, "--agent", AGENT, "--patch", str(place), "--base", built.case.base])
    except GitRefused as error:
        return Outcome(refused=str(error))
    if mode == RANGE:
        return _run(built, [*common, "--range", "..".join(words(built.case))])
    if mode == PRE_PUSH:
        lines = "".join(
            f"refs/heads/topic {new.lstrip('+')} {ref} {'0' * 40}\n"
            for new, ref in updates(built.case)
            if new
        )
        return _run(built, ["hook", "run", "pre-push", "origin", "file:///nowhere"], lines.encode())
    return _push(built) if pushes_for_real(built) else _receive(built)


def pushes_for_real(built: Built) -> bool:
    """Whether ``pre-receive`` is a real push: the first attack of each row, and wherever the push is the attack.

    For the others the hook is asked in the attacked repository itself, which saves a server, a pack and a process.
    """
    row = (one for one in ATTACKS if one.id == built.attack.id and PRE_RECEIVE in one.modes)
    first = next(row, built.attack)
    return bool(first is built.attack or built.case.updates or PRE_RECEIVE in built.attack.elsewhere)


def words(case: Case) -> tuple[str, str]:
    """How the range is named."""
    return case.words or (case.base, case.head)


def updates(case: Case) -> tuple[tuple[str, str], ...]:
    """What a push moves."""
    return case.updates or ((case.head, "refs/heads/topic"),)


def patch_of(built: Built) -> bytes:
    """The attack as a patch.

    Raises:
        GitRefused: Git cannot say it as one.
    """
    if built.case.patch is not None:
        return built.case.patch
    plain = ("-c", "diff.ignoreSubmodules=none", "-c", "core.attributesFile=/dev/null")
    return built.bench.git_bytes(
        *plain,
        "diff",
        "--binary",
        "--full-index",
        "--ignore-submodules=none",
        built.case.base,
        built.case.head,
    )


def _stage(built: Built) -> None:
    """Make the proposed tree the index, as an agent with ``git update-index`` can."""
    built.bench.git("update-ref", "refs/heads/main", built.case.base)
    lenient = (
        "-c",
        "core.protectNTFS=false",
        "-c",
        "core.protectHFS=false",
    )  # whoever owns the clone can say so
    built.bench.git(*lenient, "read-tree", f"{built.case.head}^{{tree}}")


def _outcome(judged: list[Judgement]) -> Outcome:
    findings = [finding for one in judged for finding in one.verdict.findings]
    decision = worst(judged)
    return Outcome(
        decision,
        frozenset(finding.rule for finding in findings),
        frozenset(finding.path for finding in findings if finding.path is not None),
        code=0 if decision == "allow" else 1,
    )


class _Captured(io.TextIOWrapper):
    """A text stream that keeps its bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)

    def fileno(self) -> int:
        raise OSError

    @property
    def content(self) -> bytes:
        self.flush()
        kept = self.buffer
        assert isinstance(kept, io.BytesIO)
        return kept.getvalue()


def _run(built: Built, arguments: list[str], stdin: bytes = b"") -> Outcome:
    code, printed = run_program(built.folder, built.bench.environ, arguments, stdin)
    return Outcome(code=code, printed=printed)


def run_program(
    folder: Path, environ: Mapping[str, str], arguments: list[str], stdin: bytes = b""
) -> tuple[int, bytes]:
    """``safeai-git ARGUMENTS`` in a folder: its exit code, and what it printed on both streams."""
    here, printed = Path.cwd(), _Captured()
    source = io.TextIOWrapper(io.BytesIO(stdin))
    code: object = 0
    try:
        os.chdir(folder)
        with (
            mock.patch.dict(os.environ, environ, clear=True),
            mock.patch.object(sys, "argv", ["safeai-git", *arguments]),
            mock.patch.object(sys, "stdin", source),
            mock.patch.object(os, "_exit", sys.exit),  # it would end the tests
            redirect_stdout(printed),
            redirect_stderr(printed),
        ):
            program.main()
    except SystemExit as ended:
        code = ended.code
    finally:
        os.chdir(here)
    assert isinstance(code, int)
    return code, printed.content


def _receive(built: Built) -> Outcome:
    """The hook as git would start it, in a repository that has the objects and none of the refs."""
    bench, case = built.bench, built.case
    bench.git("update-ref", "refs/heads/main", case.base)
    bench.git("update-ref", "-d", "refs/heads/topic")
    line = f"{'0' * 40} {case.head} refs/heads/topic\n"
    try:
        return _run(built, ["hook", "run", "pre-receive"], line.encode())
    finally:
        bench.git("update-ref", "refs/heads/topic", case.head)


def _push(built: Built) -> Outcome:
    """A real push to a bare repository whose pre-receive hook is ours."""
    bench, server = built.bench, built.bench.place / "server.git"
    if not server.exists():
        bench.git("clone", "-q", "--bare", "--single-branch", "-b", "main", str(bench.path), str(server))
        for name in bench.git("for-each-ref", "--format=%(refname)", "refs/tags").split():
            bench.git("fetch", "-q", str(bench.path), f"{name}:{name}", cwd=server)
        for name in ("receive.denyDeleteCurrent", "receive.denyCurrentBranch"):
            bench.git("config", name, "ignore", cwd=server)
        hook = server / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safeai_git hook run pre-receive\n')
        hook.chmod(0o755)
    specs = [f"{new}:{ref}" for new, ref in updates(built.case)]
    before = bench.git("for-each-ref", cwd=server)
    try:
        bench.git_bytes("push", "--porcelain", f"file://{server}", *specs)
    except GitRefused as error:
        said = str(error)
        assert bench.git("for-each-ref", cwd=server) == before, "a refused push moved a ref"
        if "remote: " not in said:
            return Outcome(refused=said)
        told = "".join(
            line.removeprefix("remote: ").rstrip() + "\n"
            for line in said.splitlines()
            if line.startswith("remote:")
        )
        return Outcome(code=1, printed=told.encode())
    return Outcome(code=0, printed=b"")
