"""Replays a real project's own check with the network off: for any repository and any command.

    python tests/tools_projects.py https://... or a folder --check 'make test'

The repository is cloned into a temporary folder and gets a policy with the check, and one more that only passes if the
network is really off; then one small change is judged, signed, and its evidence derived again (``replay --again``).
``--setup``, ``--lock`` and ``--keeps`` prepare an environment first; ``--network`` lets that have the network, by a policy
of an organisation that is made for it. Exits 0 if all of it passed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
OFFLINE = """/usr/bin/python3 -c "
import socket
try: socket.create_connection(('192.0.2.1', 80), 5)
except OSError as error: print(error)
else: raise SystemExit('connected')
" """


@dataclass
class Wanted:
    """What to replay. ``check`` and ``setup`` are lines of shell, the rest as in a policy."""

    check: str
    setup: str = ""
    lock: Sequence[str] = ()
    keeps: Sequence[str] = ()
    network: bool = False
    read_only: Sequence[str] = ()
    variables: Sequence[str] = ()
    needs: Sequence[str] = ()
    timeout: int = 600
    level: str = "C"

    def policy(self) -> dict[str, Any]:
        """The repository's policy."""
        theirs: dict[str, Any] = {
            "name": "theirs",
            "run": self.check,
            "timeout_seconds": self.timeout,
            "read_only": list(self.read_only),
            "environment": list(self.variables),
            "needs": list(self.needs),
            "isolation": self.level,
        }
        if self.setup:
            theirs["setup"] = {
                "run": self.setup,
                "locks": list(self.lock),
                "keeps": list(self.keeps),
                "network": self.network,
                "read_only": list(self.read_only),
                "environment": list(self.variables),
            }
        offline = {"name": "offline", "run": OFFLINE, "timeout_seconds": 30, "isolation": self.level}
        return {"checks": [theirs, offline]}


class Failed(Exception):
    """A command did not end as it should; the message is what it said."""


def replay_project(
    repository: str, wanted: Wanted, folder: Path, environ: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Clone, put a policy, change something, judge and sign, derive again; the evidence of the checks.

    Args:
        repository: What ``git clone`` takes.
        wanted: The checks.
        folder: An empty folder for the clone and for keys.
        environ: All variables; ``HOME`` is replaced.

    Raises:
        Failed: Anything did not pass.
    """
    clone, home = folder / "project", folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = Somebody\nemail = somebody@example.com\n")
    environment = {**environ, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "NO_COLOR": "1"}
    environment |= {"SAFEAI_PREPARED": str(folder / "prepared")}

    def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            command, cwd=clone if clone.exists() else folder, env=environment, capture_output=True, text=True
        )
        if done.returncode not in codes:
            raise Failed(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done.stdout

    safeai = (sys.executable, "-P", "-m", "safeai_git")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), environ.get("PYTHONPATH"))))
    run("git", "clone", "-q", "--no-hardlinks", repository, str(clone))
    (clone / ".safeai").mkdir(exist_ok=True)
    (clone / ".safeai/policy.yaml").write_text(json.dumps(wanted.policy(), indent=1))
    run("git", "add", "-f", ".safeai/policy.yaml")
    run("git", "commit", "-qm", "A policy")
    (clone / "replayed.txt").write_text("a change\n")
    run("git", "add", "-f", "replayed.txt")
    run("git", "commit", "-qm", "A change\n\nCo-Authored-By: Claude <noreply@anthropic.com>")
    run(*safeai, "keys", "generate")
    if wanted.network:
        _publish(folder / "organisation.yaml", wanted, environment, safeai)
    run(*safeai, "check", "--range", "HEAD~1..HEAD", "--sign", "--format", "json", codes=(0, 1))
    evidence: list[dict[str, Any]] = []
    for place in sorted((clone / ".git/safeai/reports").glob("*.json")):
        evidence = evidence or json.loads(place.read_bytes())["evidence"]
    bad = [one for one in evidence if one["result"] != "passed"]
    if bad or not evidence:
        logs = [
            run(*safeai, "replay", "--log", one["output_sha256"][:16], codes=(0, 2))[-3000:]
            for one in bad
            if one["output_sha256"]
        ]
        raise Failed("\n".join([*(f"{one['name']}: {one['result']}, {one['detail']}" for one in bad), *logs]))
    run(*safeai, "replay", "--again", "HEAD", "--quiet")
    return evidence


def _publish(policy: Path, wanted: Wanted, environment: dict[str, str], safeai: Sequence[str]) -> None:
    """Sign an organisation's policy with a key of its own, and configure it for the one who runs the checks."""
    folder = policy.parent
    policy.write_text(
        json.dumps({"allow_setup_network": "reviewed", "allow_read_only": list(wanted.read_only)})
    )
    keys = folder / "keys"
    subprocess.run(
        [*safeai, "keys", "generate", "--key-id", "org", "--folder", str(keys)],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    signed = folder / "organisation.signed"
    publish = ("policy", "publish", str(policy), "--version", "1", "--expires", "2099-01-01")
    subprocess.run(
        [*safeai, *publish, "--organisation", "acme", "--output", str(signed)],
        env={**environment, "SAFEAI_KEY": str(keys / "ed25519.org.sk")},
        cwd=folder / "project",
        check=True,
        stdout=subprocess.DEVNULL,
    )
    public = (keys / "ed25519.org.pub").read_text().split()
    signers = folder / "organisation.signers"
    signers.write_text(f'org namespaces="safeai-policy" {public[0]} {public[1]}\n')
    environment |= {"SAFEAI_ORG_POLICY": str(signed), "SAFEAI_ORG_SIGNERS": str(signers)}


def main() -> int:
    """Zero when everything passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("--check", required=True)
    parser.add_argument("--setup", default="")
    for name in ("lock", "keeps", "read-only", "variable", "need"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--timeout", type=int, default=600)
    parser.add_argument("--level", default="C")
    asked = parser.parse_args()
    wanted = Wanted(
        check=asked.check,
        setup=asked.setup,
        lock=asked.lock,
        keeps=asked.keeps,
        network=asked.network,
        read_only=asked.read_only,
        variables=asked.variable,
        needs=asked.need,
        timeout=asked.timeout,
        level=asked.level,
    )
    where = asked.repository
    if Path(where).exists():
        where = str(Path(where).resolve())
    with tempfile.TemporaryDirectory(prefix="project-") as place:
        Path(place).chmod(0o711)  # root's checks run as another user
        try:
            evidence = replay_project(where, wanted, Path(place), os.environ)
        except Failed as error:
            print(error)
            return 1
    for one in evidence:
        print(
            f"{one['name']}: {one['result']} ({one['detail']}), {one['milliseconds']} ms, "
            f"{one['output_bytes']} bytes printed, isolation {one['isolation'].split(',')[0]}"
            + (f", environment {one['prepared'][:12]}" if one["prepared"] else "")
        )
    print("derived again: the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
