"""``init`` and ``hook install|uninstall``: what has to be in a clone before the gate works there."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from safeai_git.commands.keyring import generate_key
from safeai_git.commands.session import Session, default_key_folder
from safeai_git.core.errors import RepositoryError, StorageError
from safeai_git.core.publickey import PublicKey, format_openssh
from safeai_git.files import write_atomically
from safeai_git.git.plumbing import GitFailed
from safeai_git.git.repository import NOTES_REF, REMOTE_NOTES
from safeai_git.hook import HOOKS
from safeai_git.keys.signer import load_signer

MARK = "safeai-git hook run"
BEFORE = ".before-safeai"

STARTER_POLICY = """\
# What agents may change here. Everything that can be said: policy.example.yaml of safeai-git, 'safeai-git policy schema'.
# yaml-language-server: $schema=https://safe-ai.dev/schemas/policy.schema.json
repository: {repository}
safe_mode: true
autonomy_tier: beta
deny_paths:
  - config/keys/
  - "**/.env"
max_edit_size_bytes: 65536
max_total_size_bytes: 524288
"""

SIGNERS_HEAD = """\
# Whose signatures count here (format: ssh-keygen(1), ALLOWED SIGNERS).
# A key that an agent can use should not be listed for safeai-approval.
"""

PRE_COMMIT_SNIPPET = """\
  - repo: https://github.com/safe-ai/safeai-git
    rev: v{version}
    hooks:
      - id: safeai-git-pre-commit
      - id: safeai-git-commit-msg
      - id: safeai-git-post-commit
      - id: safeai-git-pre-push
"""


@dataclass(slots=True)
class Asker:
    """Asks before anything that is there is replaced; without a terminal the answer is no unless ``--yes`` was given."""

    yes: bool

    def agrees(self, question: str) -> bool:
        """Whether the person agrees."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            return False
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def init(session: Session, *, yes: bool, hooks: bool, version: str) -> int:
    """Put policy, signers, key, hooks and notes configuration in place; what is there already stays."""
    repository = session.repository
    if repository.work_tree is None:
        raise RepositoryError(
            f"{repository.git_directory} is a bare repository: there is no working tree to put a policy into",
            hint="run 'safeai-git init' in a clone",
        )
    public, principal = _key(session)
    folder = repository.work_tree / ".safeai"
    if folder.is_symlink():
        raise StorageError(f"{folder} is a symbolic link", hint="make it a folder of the repository")
    _once(session, folder / "policy.yaml", STARTER_POLICY.format(repository=_repository_name(session)))
    key = format_openssh(public).decode()
    line = f'{principal} namespaces="safeai-verdict" {key}\n'
    _once(session, folder / "allowed_signers", SIGNERS_HEAD + line)
    if key not in (folder / "allowed_signers").read_text(encoding="utf-8", errors="replace"):
        session.say(
            f"note: your key is not listed in .safeai/allowed_signers; a maintainer can add:\n  {line.strip()}"
        )
    _configure(session)
    if hooks:
        install(session, Asker(yes), version=version)
    session.say("next: git add .safeai && git commit -m 'Add the safeai-git policy'")
    return 0


def _key(session: Session) -> tuple[PublicKey, str]:
    path = session.key_path()
    if path is None:
        path = generate_key(default_key_folder(session.environ), "default", None).secret
        session.say(f"made a key: {path}")
    else:
        session.say(f"key: {path}")
    passphrase = session.environ.get("SAFEAI_KEY_PASSPHRASE")
    who = session.repository.identity("COMMITTER")
    principal = (
        who[1]
        if who and who[1] and not any(character in who[1] for character in ' ,"#*?!\t')
        else "workstation"
    )
    return load_signer(path, passphrase.encode() if passphrase else None).public, principal


def _repository_name(session: Session) -> str:
    """``host/path`` of the remote ``origin``, without user or password; else the folder's name."""
    url = session.repository.config("remote.origin.url")
    if "://" in url:
        url = url.split("://", 1)[1].rsplit("@", 1)[-1]
    elif ":" in url and not url.startswith(("/", ".")):
        url = url.rsplit("@", 1)[-1].replace(":", "/", 1)
    else:
        url = session.repository.root.name
    kept = "".join(character for character in url if character.isalnum() or character in "-._/")
    return kept.removesuffix(".git").strip("/") or "repository"


def _once(session: Session, path: Path, content: str) -> None:
    """Write a file unless there is one."""
    if path.exists() or path.is_symlink():
        session.say(f"kept: {path}")
        return
    write_atomically(path, content.encode(), mode=0o644)
    path.parent.chmod(0o755)
    session.say(f"wrote: {path}")


def _configure(session: Session) -> None:
    """Let notes follow amended and rebased commits, and come along with each fetch."""
    repository = session.repository
    wanted = [("notes.safeai.mergeStrategy", "cat_sort_uniq"), ("notes.rewriteRef", NOTES_REF)]
    wanted += [
        (f"remote.{remote}.fetch", f"+{NOTES_REF}:{REMOTE_NOTES.format(remote=remote)}")
        for remote in repository.git(["remote"]).decode("utf-8", "replace").split()
    ]
    for key, value in wanted:
        try:
            there = (
                repository.git(["config", "--local", "--get-all", key])
                .decode("utf-8", "replace")
                .splitlines()
            )
        except GitFailed:
            there = []
        if value not in there:
            repository.git(["config", "--local", "--add", key, value])
            session.say(f"configured: {key} {value}")


def install(session: Session, asker: Asker, *, version: str) -> int:
    """Install the hooks where git looks for them, leaving other people's hooks in force. 1 when one is missing after."""
    repository = session.repository
    configured = repository.config("core.hooksPath")
    folder = hooks_folder(session)
    if (
        repository.work_tree
        and (repository.work_tree / ".pre-commit-config.yaml").exists()
        and not configured
    ):
        session.say("this repository uses pre-commit; add this to .pre-commit-config.yaml instead, then run")
        session.say("'pre-commit install -t pre-commit -t commit-msg -t post-commit -t pre-push':")
        session.say(PRE_COMMIT_SNIPPET.format(version=version))
        return 0
    if (
        configured
        and repository.work_tree
        and not folder.resolve().is_relative_to(repository.common_directory.resolve())
    ):
        session.say(
            f"core.hooksPath is {configured}, which is not this clone's own; nothing is written there."
        )
        session.say("Add to its hooks, one line each:")
        for name in HOOKS:
            session.say(f'  {folder / name}: safeai-git hook run {name} "$@"')
        return 0
    missing = 0
    for name in HOOKS:
        missing += not _install_one(session, asker, folder, name)
    return 1 if missing else 0


def _install_one(session: Session, asker: Asker, folder: Path, name: str) -> bool:
    path, before = folder / name, folder / f"{name}{BEFORE}"
    if path.exists() and MARK in path.read_text(encoding="utf-8", errors="replace"):
        _write_hook(path, name, chained=before.exists())
        session.say(f"hook {name}: installed")
        return True
    if path.exists() or path.is_symlink():
        question = f"{path} is there already. Keep it, run first, as {before.name}?"
        if before.exists() or not asker.agrees(question):
            session.note(
                f"safeai-git: {path} is somebody else's and was left alone; --yes keeps it and runs it first"
            )
            return False
        path.rename(before)
    _write_hook(path, name, chained=before.exists())
    session.say(f"hook {name}: installed{', after the one that was there' if before.exists() else ''}")
    return True


def _write_hook(path: Path, name: str, *, chained: bool) -> None:
    lines = [
        "#!/bin/sh",
        "# Installed by 'safeai-git hook install'; 'safeai-git hook uninstall' takes it out again.",
    ]
    if chained:
        if name == "pre-push":
            # Both hooks want what git sends on standard input.
            lines += ["updates=$(cat)", f'printf "%s\\n" "$updates" | "$0{BEFORE}" "$@" || exit']
        else:
            lines.append(f'"$0{BEFORE}" "$@" || exit')
    run = f'{shlex.quote(sys.executable)} -I -m safeai_git hook run {name} "$@"'
    lines.append(f"# {MARK} {name}, by the interpreter that it was installed with")
    lines.append(f'printf "%s\\n" "$updates" | {run}' if chained and name == "pre-push" else f"exec {run}")
    write_atomically(path, "\n".join([*lines, ""]).encode(), mode=0o755)


def uninstall(session: Session) -> int:
    """Take our hooks out and put back what was there before."""
    folder = hooks_folder(session)
    for name in HOOKS:
        path, before = folder / name, folder / f"{name}{BEFORE}"
        if path.exists() and MARK in path.read_text(encoding="utf-8", errors="replace"):
            path.unlink()
            if before.exists():
                before.rename(path)
            session.say(f"hook {name}: taken out")
    return 0


def hooks_folder(session: Session) -> Path:
    """Where git looks for this clone's hooks."""
    repository = session.repository
    configured = repository.config("core.hooksPath")
    if configured:
        return repository.root / Path(configured).expanduser()
    return repository.common_directory / "hooks"


@dataclass(frozen=True, slots=True)
class HookState:
    """Whether one hook is really active."""

    name: str
    active: bool
    detail: str


def hook_states(session: Session) -> list[HookState]:
    """What git would run for each of our hooks in this clone."""
    folder = hooks_folder(session)
    states = []
    for name in HOOKS:
        path = folder / name
        try:
            content = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            states.append(
                HookState(name, active=False, detail=f"{path} is missing: 'safeai-git hook install'")
            )
            continue
        runs = MARK in content or "pre-commit" in content
        executable = os.name == "nt" or bool(path.stat().st_mode & stat.S_IXUSR)
        if not executable:
            detail = f"{path} is not executable, so git passes over it: chmod +x"
        elif "pre-commit" in content and MARK not in content:
            detail = f"{path} is pre-commit's: its configuration decides"
        elif not runs:
            detail = f"{path} is somebody else's and does not call safeai-git"
        else:
            detail = str(path)
        states.append(HookState(name, active=runs and executable, detail=detail))
    return states
