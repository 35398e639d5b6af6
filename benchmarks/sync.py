"""``python -m benchmarks.sync``: proof that no answer precedes the sync that covers it.

A Governor runs under strace while verdicts are sent to it over many connections. From the calls, in the order in which
the kernel saw them: which entries were written, which of them an fdatasync that began after the write had ended by the
time an answer was handed to a socket, and which entry that answer's receipt names. Exit 1 where an answer came first.

    python -m benchmarks.sync [--verdicts 2000] [--connections 64]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.governor_http import request, send, served
from benchmarks.statements import statement
from safeai_git.keys.seal import seal

_CALL = re.compile(r"(\d+) +(\w+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.*= (-?\d+)")
_RETURNED = re.compile(r"\) = (-?\d+)")
_ENTRY = re.compile(r'\{\\"seq\\":(\d+),\\"prev\\":')
_RECEIPT = re.compile(r"\\\\nindex (\d+)\\\\n")
_WRITES = ("write", "writev", "pwrite64", "sendto", "sendmsg")


@dataclass
class Order:
    """What the calls so far show.

    Attributes:
        written: The highest entry that a finished write put into the log; -1 for none.
        synced: The highest that a finished sync covers.
        syncs: How many of those there were.
        answers: Receipts that were handed to a socket.
        early: Those that no sync covered yet: the entry, and how far the syncs had come.
    """

    written: int = -1
    synced: int = -1
    syncs: int = 0
    answers: int = 0
    early: list[tuple[int, int]] = field(default_factory=list)
    _writing: dict[str, int] = field(default_factory=dict)
    _syncing: dict[str, int] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """One line of strace's."""
        if resumed := _RESUMED.match(line):
            self._ended(resumed[1], resumed[2], int(resumed[3]))
            return
        call = _CALL.match(line)
        if call is None:
            return
        process, name, rest = call.groups()
        if name == "fdatasync" and "/audit.log>" in rest:
            self._syncing[process] = self.written
        elif name in _WRITES and "/audit.log>" in rest.partition(",")[0]:
            self._writing[process] = max(map(int, _ENTRY.findall(rest)), default=-1)
        elif name in _WRITES:
            for index in map(int, _RECEIPT.findall(rest)):
                self.answers += 1
                if index > self.synced:
                    self.early.append((index, self.synced))
            return
        else:
            return
        if "<unfinished ...>" not in rest and (returned := _RETURNED.search(rest[-200:])):
            self._ended(process, name, int(returned[1]))

    def _ended(self, process: str, name: str, result: int) -> None:
        if name == "fdatasync" and process in self._syncing:
            covered = self._syncing.pop(process)
            if result == 0:
                self.synced, self.syncs = max(self.synced, covered), self.syncs + 1
        elif name in _WRITES and process in self._writing:
            entry = self._writing.pop(process)
            if result >= 0:
                self.written = max(self.written, entry)


def order_of(lines: Iterable[str]) -> Order:
    """Read a whole trace."""
    order = Order()
    for line in lines:
        order.take(line)
    return order


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verdicts", type=int, default=2_000)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("strace is not installed; apt-get install strace")
    with tempfile.TemporaryDirectory() as scratch:
        folder, trace = Path(scratch), Path(scratch) / "trace"
        with served(folder) as (port, token, signer):
            pid = pid_of(port)
            calls = f"trace=fdatasync,{','.join(_WRITES)}"
            tracer = subprocess.Popen(
                [
                    strace,
                    "-f",
                    "-qq",
                    "-y",
                    "-s",
                    "400000",
                    "-e",
                    calls,
                    "-e",
                    "signal=none",
                    "-o",
                    str(trace),
                    "-p",
                    str(pid),
                ]
            )
            while not _is_traced(pid):
                time.sleep(0.01)
            many = [seal(statement(at), [signer]) for at in range(asked.verdicts)]
            send(port, [request(one.format(), token) for one in many], asked.connections)
            tracer.terminate()
            tracer.wait()
        with trace.open(encoding="utf-8", errors="replace") as lines:
            order = order_of(lines)
    print(
        f"{order.answers:,} receipts were sent, after {order.syncs:,} syncs over {order.synced + 1:,} entries"
    )
    for index, synced in order.early[:10]:
        print(f"entry {index} was answered when only {synced + 1} entries were synced")
    if order.answers < asked.verdicts:
        raise SystemExit(f"{asked.verdicts - order.answers:,} answers were not seen: the trace shows nothing")
    print("none" if not order.early else f"{len(order.early):,}", "of them preceded the sync that covers it")
    sys.exit(bool(order.early))


def pid_of(port: int) -> int:
    """Who listens there."""
    listening = f":{port:04X} "
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if listening in line.split(maxsplit=1)[1][:14] + " " and line.split()[3] == "0A"
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(
                str(one.readlink()) in {f"socket:[{inode}]" for inode in inodes}
                for one in (process / "fd").iterdir()
            ):
                return int(process.name)
        except OSError:
            continue
    raise SystemExit(f"nobody listens at port {port}")


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


if __name__ == "__main__":
    main()
