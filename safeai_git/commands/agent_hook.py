"""``safeai-git agent hook``: the hook that an agent calls before it writes.

It is advice given as early as can be, and never replaces the gate: what a shell writes is judged by git's objects.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from safeai_git.agents import shell
from safeai_git.agents.edits import ToolCall
from safeai_git.commands.agent_call import Asked, real_path, root_of
from safeai_git.commands.quick import QuickSession
from safeai_git.core.display import display, safe_text
from safeai_git.core.errors import FormatError
from safeai_git.core.finding import Finding
from safeai_git.core.policy_parts import GOVERNANCE
from safeai_git.core.wildmatch import Pattern, PatternSet
from safeai_git.files import read_bounded
from safeai_git.git.plumbing import abandon
from safeai_git.git.repository import discover
from safeai_git.git.working import FileEdit, above
from safeai_git.judging import Judgement

LARGEST_FILE = 64 * 1024 * 1024

_CLOSED = PatternSet(Pattern.parse(one) for one in (*GOVERNANCE, ".git/"))
_MOST_FINDINGS = 10


def run_hook(asked: Asked) -> int:
    """Answer a tool call: no opinion, or that it is refused (or the person asked) with the reasons.

    Returns:
        0 when the answer is given.

    Raises:
        SafeAIError: It could not be decided; the caller makes the code of that.
    """
    try:
        said = _of_files(asked) if asked.targets else of_command(asked.call)
    finally:
        abandon()
    if said is None:
        told = asked.adapter.silent
    else:
        decision, reason = said
        if decision == "ask" and not asked.adapter.asks:
            decision, reason = "deny", f"{reason}\n(a person has to make this edit, or approve of it)"
        told = asked.adapter.answer(decision, reason)
    if told:
        print(told, flush=True)
    return 0


def _of_files(asked: Asked) -> tuple[str, str] | None:
    now: dict[Path, bytes | None] = {}
    edits: dict[Path, dict[Path, FileEdit]] = {}
    for target in asked.targets:
        if target.root is None:
            continue
        if target.file not in now:
            now[target.file] = _content(target.file)
        before, after = target.write.sides(now[target.file])
        path = os.fsencode(target.file.relative_to(target.root).as_posix())
        there = edits.setdefault(target.root, {})
        first = there[target.file].before if target.file in there else before
        there[target.file] = FileEdit(path, first, after)
        now[target.file] = after
    said = [_of_edits(asked, root, list(there.values())) for root, there in edits.items()]
    worst = [one for one in said if one is not None]
    return min(worst, key=lambda one: one[0] != "deny", default=None)


def _of_edits(asked: Asked, root: Path, edits: list[FileEdit]) -> tuple[str, str] | None:
    repository = above(discover(root, asked.environ, brief=True))
    session = QuickSession(root, asked.environ, _repository=repository)
    try:
        judged = session.judge(agent=asked.adapter.name).edited(edits)
    finally:
        session.close()
    if judged.decision == "allow":
        return None
    return ("deny" if judged.decision == "deny" else "ask"), _reasons(judged)


def _content(file: Path) -> bytes | None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise FormatError(f"{display(os.fsencode(file))} is no plain file")
        content = read_bounded(file, LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) > LARGEST_FILE:
        raise FormatError(f"{display(os.fsencode(file))} is larger than {LARGEST_FILE:,} bytes")
    return content


def _reasons(judged: Judgement) -> str:
    shown = sorted(judged.verdict.findings, key=lambda finding: -finding.outcome)
    lines = [f"safeai-git ({judged.decision}, policy {safe_text(judged.trust.policy.source)}):"]
    lines += [_reason(one) for one in shown[:_MOST_FINDINGS]]
    return "\n".join(lines)


def _reason(one: Finding) -> str:
    where = "" if one.path is None else f"{display(one.path)} "
    said = f"{safe_text(one.message)}; do: {safe_text(one.remedy)}; lifted by: {safe_text(one.lifted_by)}"
    return f"- {where}[{one.rule}] {said}"


def of_command(call: ToolCall) -> tuple[str, str] | None:
    """``deny`` and why, for a command that plainly goes round the gate; ``None`` for every other."""
    for words in shell.commands(call.command):
        if word := shell.without_hooks(words):
            reason = (
                f"safeai-git: '{safe_text(word)}' leaves out the hooks that judge a change; do: run it without, "
                "and mend what they name. CI and 'safeai-git verify' judge the commit in any case"
            )
            return "deny", reason
    for target in shell.written(call.command, call.folder):
        file = real_path(target, call.folder)
        root = root_of(file)
        if root is not None:
            path = os.fsencode(file.relative_to(root).as_posix())
            if _CLOSED.first_match_folded(path):
                reason = (
                    f"safeai-git: {display(path)} decides what every change is held against; "
                    "do: leave it as it is, and ask a maintainer to change it"
                )
                return "deny", reason
    return None
