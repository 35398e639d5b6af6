"""Canaries: programs planted wherever a repository can name one; each that is started writes its name down.

What a configuration, an attribute, a hook or a link can make git start is listed here once. The places are the
repository's own configuration, that of the working tree, and a file that either includes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .bench import Bench

HOOKS = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-applypatch", "post-checkout", "post-commit",
    "post-index-change", "post-merge", "post-receive", "post-rewrite", "post-update", "pre-applypatch",
    "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push", "pre-rebase", "pre-receive", "prepare-commit-msg",
    "proc-receive", "push-to-checkout", "reference-transaction", "sendemail-validate", "update",
)  # fmt: skip
"""githooks(5)."""

OUR_WORDS = ("check", "verify", "show", "approve", "replay", "doctor", "init", "hook", "keys", "policy")
GIT_WORDS = ("write-tree", "rev-parse", "cat-file", "rev-list", "for-each-ref", "update-ref", "planted-alias")

ATTRIBUTES = b"*.py diff=planted filter=planted merge=planted\n*.late filter=process\n"

PLACES = ("config", "config.worktree", "included")


@dataclass
class Canaries:
    """Planted programs, and which of them were started.

    Args:
        folder: Where the programs and the log are.
    """

    folder: Path
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    def program(self, name: str, *, then: str = "exit 0") -> str:
        """A program that writes its name down."""
        place = self.folder / name
        place.write_text(f"#!/bin/sh\necho {name} >>'{self.folder}/fired'\n{then}\n")
        place.chmod(0o755)
        self.names.append(name)
        return str(place)

    def fired(self) -> set[str]:
        """Names of the programs that were started; asking forgets them."""
        log = self.folder / "fired"
        if not log.exists():
            return set()
        names = set(log.read_text().split())
        log.unlink()
        return names


def configuration(canaries: Canaries, *, hooks: bool) -> list[tuple[str, str]]:
    """Every key that names a program, with a canary in it.

    Args:
        canaries: Makes the programs.
        hooks: Whether ``core.hooksPath`` is set, too.
    """
    keys = {
        "core.fsmonitor": "", "core.pager": "cat", "core.editor": "", "core.sshCommand": "", "core.gitProxy": "",
        "core.alternateRefsCommand": "", "core.askPass": "", "sequence.editor": "", "diff.external": "",
        "diff.planted.textconv": "cat", "diff.planted.command": "", "filter.planted.clean": "cat",
        "filter.planted.smudge": "cat", "filter.process.process": "", "merge.planted.driver": "", "mergetool.planted.cmd": "",
        "difftool.planted.cmd": "", "gpg.program": "", "gpg.ssh.program": "", "gpg.x509.program": "",
        "gpg.ssh.defaultKeyCommand": "", "credential.helper": "", "uploadpack.packObjectsHook": "",
        "remote.origin.uploadpack": "", "remote.origin.receivepack": "", "trailer.planted.command": "",
        "trailer.planted.cmd": "", "interactive.diffFilter": "cat", "pager.log": "cat", "pager.diff": "cat",
        "man.viewer": "", "tar.planted.command": "", "sendemail.smtpServer": "", "web.browser": "",
        "instaweb.httpd": "", "guitool.planted.cmd": "", "gc.recentObjectsHook": "", "fetch.bundleURI": "",
    }  # fmt: skip
    said = [
        (key, canaries.program(key.replace(".", "-"), then=f"exec {then}" if then else "exit 0"))
        for key, then in keys.items()
    ]
    said += [(f"alias.{word}", "!" + canaries.program(f"alias-{word}")) for word in (*OUR_WORDS, *GIT_WORDS)]
    said += [
        ("submodule.lib.update", "!" + canaries.program("submodule-update")),
        ("remote.origin.url", "ext::" + canaries.program("remote-url")),
        ("remote.origin.promisor", "true"),
        ("commit.gpgSign", "true"),
        ("log.showSignature", "true"),
        ("protocol.ext.allow", "always"),
        ("core.fsmonitorHookVersion", "1"),
    ]
    if hooks:
        folder = canaries.folder / "hooks"
        folder.mkdir()
        for name in HOOKS:
            (folder / name).symlink_to(canaries.program(f"hooksPath-{name}"))
        said.append(("core.hooksPath", str(folder)))
    return said


def plant(bench: Bench, canaries: Canaries, place: str, *, folder: Path | None = None) -> None:
    """Plant them all in a repository.

    Args:
        bench: Runs git.
        canaries: The programs.
        place: One of `PLACES`. With the first ``core.hooksPath`` is set, with the others ``.git/hooks`` is filled.
        folder: Git's own folder, if it is not that of the bench's repository.
    """
    own = folder or bench.path / ".git"
    said = configuration(canaries, hooks=place == "config")
    target = {"config": own / "config", "config.worktree": own / "config.worktree"}.get(place)
    if place == "config.worktree":
        bench.git("config", "-f", str(own / "config"), "core.repositoryformatversion", "1")
        bench.git("config", "-f", str(own / "config"), "extensions.worktreeConfig", "true")
    if target is None:
        target = own / "included-by-config"
        bench.git("config", "-f", str(own / "config"), "include.path", target.name)
    for key, value in said:
        bench.git("config", "-f", str(target), key, value)
    (own / "info").mkdir(exist_ok=True)
    (own / "info" / "attributes").write_bytes(ATTRIBUTES)
    if place != "config":
        for name in HOOKS:
            hook = own / "hooks" / name
            hook.unlink(missing_ok=True)
            hook.parent.mkdir(exist_ok=True)
            hook.symlink_to(canaries.program(f"hooks-{name}"))
