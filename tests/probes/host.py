"""What stands beside the sandbox: things that a check must not reach, and whether something reached them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import pty
import pwd
import secrets
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.port import Limits
from safeai_git.sandbox.rlimits import hard_limit

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
SECRET_VARIABLES = ("SAFEAI_CANARY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "GIT_DIR", "AWS_SECRET_ACCESS_KEY")
COLUMN = 0 if platform.machine() == "x86_64" else 1
_REAL_CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "clone": (56, 220),
    "clone3": (435, 435),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "name_to_handle_at": (303, 264),
}
_SECRETS = {
    "an ssh key": ".ssh/id_ed25519",
    "cloud credentials": ".aws/credentials",
    "a netrc": ".netrc",
    "a cluster's token": ".kube/config",
    "a registry's password": ".docker/config.json",
}
_WRITABLE = {
    "a hook": ".git/hooks/pre-commit",
    "git's configuration": ".git/config",
    "an object": ".git/objects/ab/cdef",
    "a branch": ".git/refs/heads/main",
    "git's attributes": ".git/info/attributes",
    "the dirty tree": "src/package_of_the_probes.py",
}
_IPC_CREAT = 0o1000


class Bait:
    """Everything of it lies beneath one folder or ends with the stack.

    Args:
        folder: An empty one on the file system of the trees.
        identity: Whose process the victim is; ``None`` for the caller's own.
        stack: Gets what is to be undone.
    """

    def __init__(self, folder: Path, identity: Identity | None, stack: ExitStack) -> None:
        self.folder = folder
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.repository = folder / "repository"
        self._stack = stack
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lay_files()
        self._sockets = self._listen()
        self._keys = [secrets.randbits(30) for _ in range(4)]
        self._make_ipc()
        self.terminal = self._take_terminal()
        self.inherited = os.open(self.secret, os.O_RDONLY)
        stack.callback(os.close, self.inherited)
        os.set_inheritable(self.inherited, True)
        number = None if identity is None else identity.uid
        self.victim = stack.enter_context(
            subprocess.Popen(
                ["/bin/sh", "-c", f"read -r never; : {self.canary[::-1]}"],
                stdin=subprocess.PIPE,
                env={"SAFEAI_CANARY": self.canary},
                cwd=folder / "home",
                user=number,
                group=number,
                extra_groups=None if number is None else [],
            )
        )
        stack.callback(self.victim.kill)
        os.environ.update(dict.fromkeys(SECRET_VARIABLES, self.canary))
        os.environ["HOME"] = str(folder / "home")
        self._before = self._contents()

    def _lay_files(self) -> None:
        for name in ("home", "open", "repository/.venv/site"):
            (self.folder / name).mkdir(parents=True)
        for path in (*(f"home/{one}" for one in _SECRETS.values()), "home/linkable", "secret", "writable"):
            self._put(self.folder / path, f"not for the sandbox: {self.canary}\n")
        for path in _WRITABLE.values():
            self._put(self.repository / path, "STATE = 'DIRTY'\n")
        self._put(self.repository / ".venv/tool", "")
        self._put(self.repository / ".venv/site/probes.pth", f"{self.repository}/src\n")
        for place in (self.folder, *self.folder.rglob("*")):
            place.chmod(0o777 if place.is_dir() else 0o666)
        (self.folder / "open/empty").mkdir()
        self._refill()
        shutil.copy("/bin/true", self.folder / "open/program")
        (self.folder / "open/program").chmod(0o755)
        self.secret = self.folder / "secret"
        self.in_memory = Path("/dev/shm") / self.canary
        self._put(self.in_memory, self.canary)
        self.in_memory.chmod(0o666)
        self._stack.callback(self.in_memory.unlink)

    def _refill(self) -> None:
        """What a control may have taken away."""
        (self.folder / "open/empty").mkdir(exist_ok=True)
        for name in ("removable", "truncated"):
            self._put(self.folder / "open" / name, "content")
            (self.folder / "open" / name).chmod(0o666)

    def _put(self, path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def _listen(self) -> dict[str, socket.socket]:
        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        kinds: dict[str, tuple[int, int, Any]] = {
            "tcp": (socket.AF_INET, stream, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, datagram, ("127.0.0.1", 0)),
            "unix_stream": (socket.AF_UNIX, stream, str(self.folder / "stream")),
            "unix_datagram": (socket.AF_UNIX, datagram, str(self.folder / "datagram")),
            "abstract_stream": (socket.AF_UNIX, stream, f"\0{self.canary}-stream"),
            "abstract_datagram": (socket.AF_UNIX, datagram, f"\0{self.canary}-datagram"),
        }
        if has_ipv6():
            kinds["tcp6"] = (socket.AF_INET6, stream, ("::1", 0))
        found = {}
        for name, (family, kind, address) in kinds.items():
            found[name] = one = self._stack.enter_context(socket.socket(family, kind))
            one.bind(address)
            one.setblocking(False)
            if kind == stream:
                one.listen(16)
        for name in ("stream", "datagram"):
            (self.folder / name).chmod(0o777)
        return found

    def _make_ipc(self) -> None:
        shm = self._libc.shmget(self._keys[0], 4096, _IPC_CREAT | 0o666)
        sem = self._libc.semget(self._keys[1], 1, _IPC_CREAT | 0o666)
        msg = self._libc.msgget(self._keys[2], _IPC_CREAT | 0o666)
        self._stack.callback(self._libc.shmctl, shm, 0, None)
        self._stack.callback(self._libc.semctl, sem, 0, 0, 0)
        self._stack.callback(self._libc.msgctl, msg, 0, None)
        self._stack.callback(self._remove_shared_memory)
        queue = ctypes.create_string_buffer(self.canary.encode())
        before = os.umask(0)
        made = self._libc.syscall(_REAL_CALLS["mq_open"][COLUMN], queue, os.O_CREAT | os.O_RDWR, 0o666, None)
        os.umask(before)
        if made >= 0:
            os.close(made)
            self._stack.callback(self._libc.syscall, _REAL_CALLS["mq_unlink"][COLUMN], queue)
        self.has_queue = made >= 0

    def _remove_shared_memory(self) -> bool:
        """Whether the segment that only a probe makes was there."""
        found = self._libc.shmget(self._keys[3], 0, 0)
        if found >= 0:
            self._libc.shmctl(found, 0, None)
        return bool(found >= 0)

    def _take_terminal(self) -> int:
        """A real terminal that controls this process; the end that programs have."""
        if os.getsid(0) != os.getpid():
            os.setsid()
        signal.signal(signal.SIGHUP, lambda *_: None)  # comes when the terminal goes; not inherited
        master, slave = pty.openpty()
        self._stack.callback(os.close, master)
        self._stack.callback(os.close, slave)
        settings = termios.tcgetattr(slave)
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 1)
        os.set_inheritable(master, False)
        return slave

    def facts(self, limits: Limits, repository: Path) -> dict[str, Any]:
        """What the probes are told.

        Args:
            limits: Those of their job.
            repository: Where the import path of the editable install leads.
        """
        home = self.folder / "home"
        reads = {f"{what}": str(home / path) for what, path in _SECRETS.items()}
        reads |= {
            "the shadow file": "/etc/shadow",
            "root's home": "/root",
            "another home": str(home),
            "the host's name": "/etc/hostname",
            "runtime files": "/run",
            "a secret": str(self.secret),
            "a secret through a link of the tree": "link-to-secret",
            "the kernel's log": "/dev/kmsg",
            "memory": "/dev/mem",
            "a disk": next(
                (one for one in ("/dev/vda", "/dev/sda", "/dev/nvme0n1") if Path(one).exists()), "/dev/vda"
            ),
            "FUSE": "/dev/fuse",
            "loop devices": "/dev/loop-control",
            "the kernel's objects": "/sys/module",
        }
        writes = {what: str(self.repository / path) for what, path in _WRITABLE.items() if "tree" not in what}
        writes |= {
            "the real home": str(home),
            "/var/tmp": "/var/tmp",
            "the prepared environment": str(self.repository / ".venv/tool"),
            "/etc/passwd": "/etc/passwd",
            "/etc/group": "/etc/group",
            "/etc/hosts": "/etc/hosts",
            "/etc/nsswitch.conf": "/etc/nsswitch.conf",
            "/etc": "/etc",
            "/usr": "/usr",
            "/": "/",
            "/dev": "/dev",
            "a file of the host": str(self.folder / "writable"),
        }
        return {
            "canary": self.canary,
            "numbers": {name: numbers[COLUMN] for name, numbers in _REAL_CALLS.items()},
            "tcp": self._port("tcp"),
            "tcp6": self._port("tcp6") if "tcp6" in self._sockets else 1,
            "udp": self._port("udp"),
            "unix_stream": str(self.folder / "stream"),
            "unix_datagram": str(self.folder / "datagram"),
            "abstract_stream": f"{self.canary}-stream",
            "abstract_datagram": f"{self.canary}-datagram",
            "secret": str(self.secret),
            "linkable": str(home / "linkable"),
            "open_folder": str(self.folder / "open"),
            "some_user": next(one.pw_name for one in pwd.getpwall() if one.pw_name not in {"root", "nobody"}),
            "repository": str(self.repository),
            "site": str(repository / ".venv/site"),
            "victim": self.victim.pid,
            "supervisor": os.getpid(),
            "secret_variables": SECRET_VARIABLES,
            "session": os.getsid(0),
            "terminal": os.ttyname(self.terminal),
            "inherited_inode": os.fstat(self.inherited).st_ino,
            "limits": {
                "RLIMIT_CORE": 0,
                "RLIMIT_NPROC": hard_limit("RLIMIT_NPROC", limits.processes),
                "RLIMIT_FSIZE": hard_limit("RLIMIT_FSIZE", limits.file_bytes),
                "RLIMIT_NOFILE": hard_limit("RLIMIT_NOFILE", limits.open_files),
                "RLIMIT_DATA": hard_limit("RLIMIT_DATA", limits.memory_bytes),
                "RLIMIT_CPU": hard_limit("RLIMIT_CPU", limits.cpu_seconds + 1),
            },
            "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES},
            "host_name": os.uname().nodename,
            "shm_key": self._keys[0],
            "sem_key": self._keys[1],
            "msg_key": self._keys[2],
            "own_key": self._keys[3],
            "queue": self.canary,
            "shm_file": str(self.in_memory),
            "read": reads,
            "write": writes,
        }

    def _port(self, name: str) -> int:
        port: int = self._sockets[name].getsockname()[1]
        return port

    def answer(self, process: subprocess.Popen[bytes]) -> bytes:
        """Wait for the control to end, answering what it asks by datagram; gives back what it printed."""
        assert process.stdout is not None
        told = b""
        self._echoed = False
        while True:
            ready = select.select([process.stdout, self._sockets["udp"]], [], [], 60)[0]
            if self._sockets["udp"] in ready:
                self._echoed = True
                self._sockets["udp"].sendto(b"x", self._sockets["udp"].recvfrom(16)[1])
            if process.stdout in ready:
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    return told
                told += piece
            if not ready:
                raise TimeoutError("the control does not end")

    def effects(self) -> set[str]:
        """What arrived or changed since the last call; the next call begins anew."""
        found = {"udp"} if getattr(self, "_echoed", False) else set()
        self._echoed = False
        for name, one in self._sockets.items():
            while True:
                try:
                    if one.type == socket.SOCK_STREAM:
                        one.accept()[0].close()
                    else:
                        one.recv(16)
                except BlockingIOError:
                    break
                found.add(name)
        after = self._contents()
        found |= {
            f"changed {name}"
            for name in after.keys() | self._before.keys()
            if after.get(name) != self._before.get(name)
        }
        self._refill()
        self._before = self._contents()
        if self.victim.poll() is not None:
            found.add("victim ended")
        waiting = struct.unpack("i", fcntl.ioctl(self.terminal, termios.FIONREAD, b"\0" * 4))[0]
        if waiting:
            found.add("terminal")
            os.read(self.terminal, waiting)
        if self._remove_shared_memory():
            found.add("shared memory")
        return found

    def _contents(self) -> dict[str, bytes]:
        found = {}
        for place in self.folder.rglob("*"):
            name = str(place.relative_to(self.folder))
            with suppress(FileNotFoundError):
                found[name] = place.read_bytes() if stat.S_ISREG(place.lstat().st_mode) else b""
        found["in shared memory"] = self.in_memory.read_bytes()
        return found


def lay_tree(tree: Path, bait: Bait) -> None:
    """The proposed tree: what an attacker would put into one."""
    (tree / "src").mkdir(parents=True)
    (tree / "src/package_of_the_probes.py").write_text("STATE = 'PROPOSED'\n")
    (tree / "src/edited.py").write_text("first\n")
    (tree / "link-to-secret").symlink_to(bait.secret)
    (tree / "link-to-writable").symlink_to(bait.folder / "writable")


def has_ipv6() -> bool:
    """Whether this machine has a loopback of it."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
        return True
    return False


if sys.platform != "linux":
    raise ImportError("the probes are for Linux")
