"""The kill switch as a Governor's lease tells it: asked for now and then, kept on disk, good without a network for a while.

A lease counts when one of the log's keys signed it for this repository, and until it or the policy says that it is too
old (`core.kill_switch`). A newer one is never exchanged for an older one. Where no lease can be had, the state is *stale*,
which never reads as released.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safeai_git.client.governor import GovernorClient
from safeai_git.core.context import KillSwitch
from safeai_git.core.envelope import MAX_LINE, Envelope
from safeai_git.core.errors import CouldNotDecide, FormatError, StorageError, WrongUse
from safeai_git.core.kill_switch import LEASE_TYPE, Lease
from safeai_git.core.policy import PolicyStack
from safeai_git.delivery import Destination, destination
from safeai_git.files import alone, read_bounded, write_atomically
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify

ASK_AFTER_SECONDS = 30
"""A lease that is younger is taken without asking again."""

LONGEST_WAIT_SECONDS = 3.0


class Leases:
    """What one repository's clients know of the kill switch.

    Args:
        repository: Where leases are kept, below ``.git/safeai``.
        environ: The environment, which names the Governor.
    """

    def __init__(self, repository: Repository, environ: Mapping[str, str]) -> None:
        self._repository = repository
        self._environ = environ
        self._known: dict[tuple[str, str], tuple[Lease | None, str]] = {}

    def state(self, policy: PolicyStack, agent: str) -> KillSwitch:
        """The state for a change that an agent made, by the Governor that a policy and this machine name.

        Args:
            policy: Of the change's base.
            agent: Who wrote it; empty where nobody knows.
        """
        if policy.governor is None:
            return KillSwitch()
        try:
            to = destination(self._repository, self._environ, policy.governor)
        except (CouldNotDecide, WrongUse) as error:
            return KillSwitch("stale", error.message)
        if to is None:
            return KillSwitch()  # whose machine names no Governor has none to ask; the verdict says "none"
        wait = min(float(policy.governor.timeout_seconds), LONGEST_WAIT_SECONDS)
        age = policy.kill_switch_max_age_seconds
        key = (to.keys[0].name, policy.repository)
        if key not in self._known:
            self._known[key] = self._newest(to, policy.repository, age, wait)
        lease, why = self._known[key]
        if lease is None:
            return KillSwitch("stale", why)
        found = lease.state(agent, now=int(time.time()), max_age=age)
        return KillSwitch("stale", f"{found.reason}; {why}") if found.state == "stale" and why else found

    def _newest(self, to: Destination, name: str, age: int, wait: float) -> tuple[Lease | None, str]:
        """The newest lease there is, and why there is no newer one."""
        if not name:
            return None, "the policy gives the repository no name, so no lease is handed out for it"
        path = self._path(to, name)
        held = self._held(path, to, name)
        now = int(time.time())
        if held is not None:
            good = held.state("", now=now, max_age=age).state != "stale"
            if good and (0 <= now - held.issued < ASK_AFTER_SECONDS or _asked_lately(path)):
                return held, ""
        try:
            line = GovernorClient(to.address, seconds=wait).lease(name)
            lease = opened(line, to, name)
        except CouldNotDecide as error:
            with suppress(OSError):
                path.with_suffix(".asked").touch()
            return held, error.message
        if held is not None and lease.issued < held.issued:
            return held, "the Governor handed out an older lease than before"
        return self._newer(path, to, name, lease, line), ""

    def _newer(self, path: Path, to: Destination, name: str, lease: Lease, line: bytes) -> Lease:
        """This lease, kept for the next time; or what another process has got and kept meanwhile, if that is newer.

        Of two of one second the one that stops more counts.
        """
        with suppress(StorageError), alone(path.with_suffix(".lock"), wait=LONGEST_WAIT_SECONDS) as free:
            held = self._held(path, to, name)
            if held is not None and _rank(held) > _rank(lease):
                return held
            if free:
                write_atomically(path, line)
        return lease

    def _path(self, to: Destination, name: str) -> Path:
        mark = hashlib.sha256(f"{to.keys[0].name}\n{name}".encode()).hexdigest()[:32]
        return self._repository.private_directory / "leases" / f"{mark}.json"

    @staticmethod
    def _held(path: Path, to: Destination, name: str) -> Lease | None:
        try:
            return opened(read_bounded(path, MAX_LINE), to, name)
        except (OSError, FormatError):
            return None


def opened(line: bytes, to: Destination, name: str) -> Lease:
    """Open a lease.

    Raises:
        FormatError: It is none, none of the log's keys signed it, or it is for somebody else.
    """
    envelope = Envelope.parse(line)
    keys = {one.key_id: one.raw for one in to.present}
    if envelope.payload_type != LEASE_TYPE or not any(
        one.keyid in keys and verify(keys[one.keyid], one.sig, envelope.signed_bytes)
        for one in envelope.signatures
    ):
        raise FormatError("what the Governor handed out is no lease that its log's key has signed")
    lease = Lease.parse(envelope.untrusted_payload)
    if (lease.governor, lease.repository) != (to.keys[0].name, name):
        raise FormatError("the lease that the Governor handed out is for another repository or Governor")
    return lease


def _rank(lease: Lease) -> tuple[int, bool, int]:
    return lease.issued, bool(lease.stopped), len(lease.agents)


def _asked_lately(path: Path) -> bool:
    """Whether the Governor did not answer a moment ago: a hook does not wait for it three times in one commit."""
    try:
        return 0 <= time.time() - path.with_suffix(".asked").stat().st_mtime < ASK_AFTER_SECONDS
    except OSError:
        return False
