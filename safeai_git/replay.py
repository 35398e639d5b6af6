"""Replay: the policy's checks, run on the proposed tree in a sandbox, and what was observed.

Which checks, and how, comes from the policy of the base commit. The tree is written from blobs by ourselves. Nothing
here judges: evidence goes to `core.evaluate`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from safeai_git.check_logs import CheckLogs
from safeai_git.core.context import Artifact, CheckEvidence
from safeai_git.core.errors import SandboxUnavailable
from safeai_git.core.policy import Check, PolicyStack, Setup
from safeai_git.core.proposal import Proposal
from safeai_git.core.values import replace
from safeai_git.evidence import EvidenceStore, Seen, command_digest, judged, limits_of, observed, undecided
from safeai_git.git.changes import TreeComparer
from safeai_git.git.proposed_tree import Laid, proposed_tree
from safeai_git.git.repository import Repository
from safeai_git.parallel import in_parallel
from safeai_git.prepared import Environment, PreparedEnvironments, place_for
from safeai_git.sandbox import choose, harvest
from safeai_git.sandbox.jobs import missing_programs
from safeai_git.sandbox.port import Backend, Job, Outcome
from safeai_git.sandbox.terminal import ENVIRONMENT, SHELL, Terminal

Progress = Callable[[str], None]
_WORSE = ("passed", "undecided", "failed")
_LONGEST_LOOK_SECONDS = 86_400.0
_ONE_AT_A_TIME = "C"
"""There the number of processes is counted over all checks, and whoever ends orphans cannot tell whose they are."""


_LARGEST_LOCK = 64 * 2**20
_ALLOWED = {
    "never": "none",
    "reviewed": "lock files that are those of the base only",
    "proposed": "all",
}


class _Target(Struct, frozen=True):
    """A tree, the reviewed one that it starts from, and for whose lock files set-ups may use the network."""

    tree: str
    base_tree: str
    setup_network: str


class Replayer:
    """Runs checks on trees of one repository and remembers what it saw.

    Args:
        repository: Where the trees are.
        environ: Values for the variables that a check asks for by name, and where scratch and kept trees go.
        progress: Told about each step, for a person who waits.
        on_output: Given a check's name and its output as it comes; from several threads with several `jobs`.
        on_state: Told when a check begins to run and when it has ended; likewise.
        remember: Keep and reuse evidence in the repository's private folder. For hooks only: whoever can write that
            folder can write evidence, so an authority replays anew.
        jobs: How many checks run at one time.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        environ: Mapping[str, str],
        progress: Progress = lambda _: None,
        on_output: Callable[[str, bytes], None] | None = None,
        on_state: Callable[[str, bool], None] = lambda _name, _running: None,
        remember: bool = False,
        jobs: int = 1,
    ) -> None:
        self._repository = repository
        self._environ = environ
        self._progress = progress
        self._on_output = on_output
        self._on_state = on_state
        self._jobs = jobs
        self._logs = CheckLogs(repository.private_directory / "logs")
        self._store = EvidenceStore(repository.private_directory / "evidence") if remember else None
        self._seen: dict[tuple[str, str], CheckEvidence] = {}
        self._reading = threading.Lock()
        self._stopping = threading.Event()
        self._prepared = PreparedEnvironments(
            place_for(repository.private_directory, environ),
            repository.root,
            read=self._file,
            environ=environ,
            progress=progress,
            log=self._logs.keep,
            stopping=self._stopping.is_set,
        )

    def evidence(
        self, proposal: Proposal, checks: Iterable[Check], policy: PolicyStack | None = None
    ) -> dict[str, CheckEvidence]:
        """Replay checks on the proposed tree; see `of_tree`."""
        return self.of_tree(proposal.tree, checks, policy, base_tree=proposal.base_tree)

    def of_tree(
        self,
        tree: str,
        checks: Iterable[Check],
        policy: PolicyStack | None = None,
        *,
        base_tree: str = "",
    ) -> dict[str, CheckEvidence]:
        """Replay every check on a tree; what cannot run is undecided, never passed.

        Args:
            tree: Its name.
            checks: Of the base commit's policy.
            policy: All layers; the organisation's says what checks of the others may be shown, and whose lock files
                a set-up may bring to the network.
            base_tree: The reviewed tree that the change starts from; empty for none.
        """
        of = _Target(tree, base_tree, policy.setup_network if policy else "never")
        wanted = list(checks)
        found: dict[Check, CheckEvidence] = {}
        for check in wanted:
            if refused := policy.refused_mounts(check) if policy else ():
                found[check] = undecided(check, tree, _refused(refused))
            elif known := self._known(tree, check):
                found[check] = known
        missing = [check for check in wanted if check not in found]
        for level in sorted({check.isolation for check in missing}):
            asked = [check for check in missing if check.isolation == level]
            try:
                found |= self._run(of, asked, level)
            except SandboxUnavailable as error:
                found |= {check: undecided(check, tree, error.message) for check in asked}
        by_name: dict[str, CheckEvidence] = {}
        for check in wanted:  # of two layers' checks of one name, the worse counts for both
            earlier = by_name.get(check.name)
            if earlier is None or _WORSE.index(found[check].result) > _WORSE.index(earlier.result):
                by_name[check.name] = found[check]
        return by_name

    def look(
        self, tree: str, check: Check, terminal: Terminal, policy: PolicyStack, *, base_tree: str
    ) -> Outcome:
        """Let a person look around where a check would run. No evidence comes of it.

        Raises:
            SandboxUnavailable: Nothing here can isolate it, or the check may not be shown what it asks for.
        """
        if refused := policy.refused_mounts(check):
            raise SandboxUnavailable(_refused(refused), hint="ask whoever keeps the organisation's policy")
        backend = choose(state_dir=self._repository.private_directory, least=check.isolation)
        of = _Target(tree, base_tree, policy.setup_network)
        with self._environment(of, check, backend) as prepared, self._laid(of.tree, backend) as laid:
            job = self._job(check, laid, prepared)
            job = replace(
                job,
                argv=SHELL,
                environment={**job.environment, **ENVIRONMENT},
                limits=replace(job.limits, wall_seconds=_LONGEST_LOOK_SECONDS, output_bytes=2**62),
                terminal=terminal.ends,
            )
            return backend.run(job, on_output=terminal.show)

    def _run(self, of: _Target, checks: list[Check], level: str) -> dict[Check, CheckEvidence]:
        backend = choose(state_dir=self._repository.private_directory, least=level)
        for reason in backend.isolation.not_stronger:
            self._progress(f"isolated at level {backend.isolation.level} only; not {reason}")
        jobs = 1 if backend.isolation.level == _ONE_AT_A_TIME else self._jobs
        if jobs == 1 or len(checks) == 1:
            return {check: self._replay(of, check, backend) for check in checks}
        return in_parallel(lambda check: self._replay(of, check, backend), checks, jobs, self._stopping)

    def _replay(self, of: _Target, check: Check, backend: Backend) -> CheckEvidence:
        try:
            evidence = self._attempts(of, check, backend)
        except SandboxUnavailable as error:
            evidence = undecided(check, of.tree, error.message)
        self._progress(f"{check.name}: {evidence.result} ({evidence.detail}, {evidence.seconds:.1f} s)")
        self._keep(evidence)
        return evidence

    def _attempts(self, of: _Target, check: Check, backend: Backend) -> CheckEvidence:
        runs: list[Seen] = []
        with self._environment(of, check, backend) as prepared:
            for _ in range(check.attempts if check.deterministic is False else 1):
                runs.append(self._once(of.tree, check, backend, prepared))
                if judged(check, runs[-1], backend.isolation.level)[0] != "failed":
                    break
        return observed(check, of.tree, runs, backend.isolation, prepared.content if prepared else "")

    @contextmanager
    def _environment(self, of: _Target, check: Check, backend: Backend) -> Iterator[Environment | None]:
        setup = check.setup
        if setup is None:
            yield None
            return
        if setup.network and not self._may_use_network(of, setup):
            raise SandboxUnavailable(
                f"the set-up of check {check.name} asks for the network, which the organisation's policy allows for "
                f"{_ALLOWED[of.setup_network]}",
                hint="prepare it from packages on this machine (read_only), or see 'Prepared environments' in docs/sandbox.md",
            )
        with self._prepared.of(of.tree, setup, backend, network=setup.network) as prepared:
            yield prepared

    def _may_use_network(self, of: _Target, setup: Setup) -> bool:
        if of.setup_network == "reviewed":
            return bool(of.base_tree) and all(
                self._file(of.tree, path) == self._file(of.base_tree, path) for path in setup.locks
            )
        return of.setup_network == "proposed"

    def _file(self, tree: str, path: str) -> bytes | None:
        """The content of a plain file of a tree, ``None`` where it has none of this path or a larger one."""
        store, name = self._repository.store, tree
        folders_of = TreeComparer(store)
        with self._reading:
            *folders, last = os.fsencode(path).split(b"/")
            for part in folders:
                entry = folders_of.entry(name, part)
                if entry is None or not entry.is_tree:
                    return None
                name = entry.id
            entry = folders_of.entry(name, last)
            if (
                entry is None
                or entry.mode & 0o170000 != 0o100000
                or store.header(entry.id)[1] > _LARGEST_LOCK
            ):
                return None
            return store.read(entry.id)[1]

    def _once(self, tree: str, check: Check, backend: Backend, prepared: Environment | None) -> Seen:
        # Each run gets a tree of its own: what one writes must not decide another.
        self._progress(f"preparing tree {tree[:12]} for {check.name}")
        with self._laid(tree, backend) as laid:
            artifacts: list[Artifact] = []
            lacking: list[str] = []

            def collect(root: int) -> None:
                for path in check.artifacts:
                    try:
                        found = harvest.digest(root, path, check.limits.file_bytes)
                        artifacts.append(Artifact(path, *found))
                    except harvest.Unreadable as error:
                        lacking.append(str(error))

            job = self._job(check, laid, prepared)
            job = replace(job, collect=collect if check.artifacts else None)
            if absent := missing_programs(check.needs, job, backend.identity):
                raise SandboxUnavailable(
                    f"check {check.name} needs {', '.join(absent)}, which is not there",
                    hint="install it where the sandbox shows it: in a folder of the system or one of read_only",
                )
            self._progress(f"replaying {check.name}: {check.run}")
            heard = self._on_output
            self._on_state(check.name, True)
            try:
                outcome = backend.run(
                    job, on_output=None if heard is None else lambda piece: heard(check.name, piece)
                )
            finally:
                self._on_state(check.name, False)
        if outcome.output_bytes:
            self._logs.keep(outcome.output_sha256, outcome.log)
        return Seen(outcome, tuple(artifacts), "; ".join(lacking))

    @contextmanager
    def _laid(self, tree: str, backend: Backend) -> Iterator[Laid]:
        identity = backend.identity
        with ExitStack() as stack:
            with self._reading:  # of objects, by one thread at a time
                laid = stack.enter_context(
                    proposed_tree(
                        self._repository.store,
                        tree,
                        repository=self._repository.root,
                        layered=backend.keeps_tree,
                        owner=None if identity is None else (identity.uid, identity.gid),
                        environ=self._environ,
                    )
                )
            yield laid

    def _job(self, check: Check, laid: Laid, prepared: Environment | None) -> Job:
        root = self._repository.root
        return Job(
            name=check.name,
            argv=("/bin/sh", "-c", check.run),
            tree=laid.tree,
            below=laid.below,
            tree_entries=laid.written.entries,
            tree_bytes=laid.written.bytes,
            mount_at=root,
            environment={name: self._environ[name] for name in check.environment if name in self._environ},
            limits=limits_of(check),
            read_only=tuple(Path(folder) for folder in check.read_only),
            stopping=self._stopping.is_set,
            prepared={root / path: place for path, place in prepared.folders.items()} if prepared else {},
        )

    def _known(self, tree: str, check: Check) -> CheckEvidence | None:
        key = (tree, command_digest(check))
        if key not in self._seen and self._store and (found := self._store.find(*key)):
            self._seen[key] = found
        return self._seen.get(key)

    def _keep(self, evidence: CheckEvidence) -> None:
        if evidence.result == "undecided":
            return
        self._seen[evidence.tree, evidence.command_digest] = evidence
        if self._store:
            self._store.keep(evidence)


def _refused(paths: tuple[str, ...]) -> str:
    return f"the organisation's policy does not allow it to be shown {', '.join(paths)}"
