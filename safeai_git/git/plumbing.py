"""The one command line by which git's own plumbing is run.

Everything that a repository's configuration could make git start is turned off here, in one place: hooks, pagers,
editors, the fsmonitor, credential helpers, transports, lazy fetching of missing objects, replace refs and grafts.
The program is found once, by absolute path, outside whatever a change could write, and gets an environment that is
built from an allow-list. The planted-canary tests run every command of the product through this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from safeai_git.core.errors import RepositoryError

PASSED_ON = (
    # where the repository is: git itself sets these for its hooks, and they only say what is judged
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
    # what the operating system's own libraries need
    "SYSTEMROOT",
    "TMPDIR",
    "TMP",
    "TEMP",
)

_PERSONAL = (
    # where the person's own configuration is, and the system's
    "HOME",
    "USERPROFILE",
    "HOMEDRIVE",
    "HOMEPATH",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)

SAFE_CONFIGURATION = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("core.askPass", "false"),
    ("core.sshCommand", "false"),
    ("core.gitProxy", "false"),
    ("core.commitGraph", "false"),  # a planted graph file could hide commits
    ("core.alternateRefsCommand", "false"),
    ("core.useReplaceRefs", "false"),
    ("core.warnAmbiguousRefs", "true"),
    ("advice.graftFileDeprecated", "false"),
    ("credential.helper", ""),
    ("diff.external", ""),
    ("gpg.program", "false"),
    ("gpg.ssh.program", "false"),
    ("gpg.x509.program", "false"),
    ("protocol.allow", "never"),  # a promisor remote is never asked for what is missing
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    # ownership is git's guard against running what a stranger's configuration names; nothing of it runs here
    ("safe.directory", "*"),
)

_USUAL_PLACES = ("/usr/bin/git", "/usr/local/bin/git", "/opt/homebrew/bin/git", "/bin/git")
_LONGEST_ANSWER_SECONDS = 120.0


@cache
def git_program() -> str:
    """The absolute path of git, looked for once.

    The usual places first; then ``PATH``, where only absolute folders outside the current one count, since an entry
    such as ``.`` would run a program that the change itself brings.

    Raises:
        RepositoryError: No git is installed.
    """
    for place in _USUAL_PLACES:
        if os.access(place, os.X_OK):
            return place
    here = Path.cwd().resolve()
    trusted = [
        folder
        for folder in os.environ.get("PATH", "").split(os.pathsep)
        if Path(folder).is_absolute() and not Path(folder).resolve().is_relative_to(here)
    ]
    found = shutil.which("git", path=os.pathsep.join(trusted))
    if found is None:
        raise RepositoryError("git is not installed", hint="install git 2.38 or newer, then try again")
    return found


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for git: the allow-list out of `environ`, and the switches that keep git quiet."""
    kept = {name: environ[name] for name in PASSED_ON if name in environ}
    kept |= {
        "LC_ALL": "C",
        "PATH": os.defpath,
        "HOME": os.devnull,
        "XDG_CONFIG_HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ATTR_NOSYSTEM": "1",
    }
    return kept


def personal_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The clean environment in which git finds the person's and the system's configuration files, as it does for them.

    They are trusted as much as the account that judges: whoever can write them can write the program, too. The files
    alone count (git-config(1), FILES), and the variables that say which files these are; keys and values out of the
    environment (``GIT_CONFIG_COUNT``, ``git -c``) do not. For commands that run no program: ``config`` and ``var``.
    """
    cleaned = clean_environment(environ)
    for name in _PERSONAL:
        cleaned.pop(name, None)
    return cleaned | {name: environ[name] for name in _PERSONAL if name in environ}


def command_line(arguments: Sequence[str | bytes]) -> list[str | bytes]:
    """``git`` by absolute path with every program of the configuration disabled, then `arguments`.

    ``git config`` runs no program and is asked for what the repository really says, so nothing is disabled for it.
    """
    line: list[str | bytes] = [git_program(), "--no-pager"]
    for key, value in SAFE_CONFIGURATION:
        if arguments[0] != "config" or key == "safe.directory":
            line += ["-c", f"{key}={value}"]
    return [*line, *arguments]


class Bounds(Struct, frozen=True):
    """What a command may use, where it reads what a stranger sent; kept by the system (setrlimit(2)).

    Attributes:
        memory_bytes: Of its address space.
        cpu_seconds: Of one processor.
        file_bytes: Of the largest file that it writes.
        seconds: Until it has to be done.
    """

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    seconds: float

    def around(self, line: list[str | bytes]) -> list[str | bytes]:
        """The command line under these limits. A shell sets them: between fork and exec nothing of ours can run."""
        script = 'ulimit -c 0 && ulimit -v "$1" && ulimit -t "$2" && ulimit -f "$3" && shift 3 && exec "$@"'
        limits = (self.memory_bytes // 1024, self.cpu_seconds, self.file_bytes // 512)
        return ["/bin/sh", "-c", script, "sh", *map(str, limits), *line]


class GitFailed(RepositoryError):
    """Git ended with an error. ``status`` is its exit code, ``stderr`` what it said."""

    def __init__(self, what: str, status: int, stderr: str) -> None:
        super().__init__(f"git {what} failed: {stderr.strip() or f'exit code {status}'}")
        self.status = status
        self.stderr = stderr


def run(
    arguments: Sequence[str | bytes],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stdin: bytes = b"",
    extra: Mapping[str, str] | None = None,
    personal: bool = False,
    bounds: Bounds | None = None,
) -> tuple[bytes, str]:
    """Run one plumbing command and return what it printed: standard output, standard error as text.

    Args:
        arguments: The command and its arguments, e.g. ``["rev-parse", "HEAD"]``.
        cwd: Where to run it.
        environ: The environment to take the allow-listed variables from.
        stdin: What it reads.
        extra: Variables of ours on top, such as a temporary index.
        personal: Whether the person's and the system's configuration is read (`personal_environment`).
        bounds: What it may use.

    Raises:
        GitFailed: It ended with another code than 0.
        RepositoryError: It could not be started or gave no answer.
    """
    environment = personal_environment(environ) if personal else clean_environment(environ)
    environment |= extra or {}
    line = command_line(arguments)
    try:
        begun = None if stdin or bounds else _BEGUN.pop(_identity(line, cwd, environment), None)
        if begun is not None:
            try:
                printed, complained = begun.communicate(timeout=_LONGEST_ANSWER_SECONDS)
            finally:
                if begun.returncode is None:
                    begun.kill()
            status = begun.returncode
        else:
            done = subprocess.run(
                bounds.around(line) if bounds else line,
                cwd=cwd,
                env=environment,
                input=stdin,
                capture_output=True,
                timeout=bounds.seconds if bounds else _LONGEST_ANSWER_SECONDS,
                check=False,
            )
            printed, complained, status = done.stdout, done.stderr, done.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RepositoryError(f"git {os.fsdecode(arguments[0])} could not be run: {error}") from error
    said = complained.decode("utf-8", "replace")
    if status:
        raise GitFailed(os.fsdecode(arguments[0]), status, said)
    return printed, said


_BEGUN: dict[object, subprocess.Popen[bytes]] = {}


def _identity(line: list[str | bytes], cwd: Path, environment: Mapping[str, str]) -> object:
    return tuple(line), os.fspath(cwd), frozenset(environment.items())


def begin(
    arguments: Sequence[str | bytes], *, cwd: Path, environ: Mapping[str, str], personal: bool = False
) -> None:
    """Start a command that `run` will be asked for, so that git works while we load our modules.

    What `run` is asked for in just the same way takes the answer over, once; anything else is run as ever. Nothing
    is said about what cannot be started: `run` will. For a process that asks once and ends; see `abandon`.
    """
    environment = personal_environment(environ) if personal else clean_environment(environ)
    line = command_line(arguments)
    with suppress(OSError):
        _BEGUN[_identity(line, cwd, environment)] = subprocess.Popen(
            line,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def abandon() -> None:
    """End what was begun and never asked for."""
    while _BEGUN:
        _, process = _BEGUN.popitem()
        process.kill()
        process.communicate()
