"""Prepared environments: a set-up runs once for each content of the lock files, and what it makes cannot be changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Repo
from test_replay import checked, checked_template, kept_trees, needs_sandbox, session_of

from safeai_git.core.context import CheckEvidence
from safeai_git.core.policy import Check, Policy, PolicyStack, Setup
from safeai_git.replay import Replayer
from safeai_git.sandbox import choice, harvest
from tests.probes.runs import processes_with

__all__ = ["checked", "checked_template", "kept_trees"]

pytestmark = needs_sandbox


@pytest.fixture(autouse=True)
def spaces() -> None:
    if sys.platform == "linux" and choice.choose(state_dir=None).isolation.level == "C":
        pytest.skip("prepared environments need namespaces")


@pytest.fixture(autouse=True)
def place(environment: dict[str, str]) -> Iterator[Path]:
    """In a folder that root's checks can pass, too."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    folder.chmod(0o711)
    environment["SAFEAI_PREPARED"] = str(folder / "prepared")
    yield folder / "prepared"
    shutil.rmtree(folder)


SETUP = Setup(run="mkdir env && cat lock >env/made && date +%N >>env/made", locks=("lock",), keeps=("env",))


def tree_with(repo: Repo, **files: str) -> str:
    for name, content in files.items():
        repo.write(name, content)
    repo.git("add", "-A")
    return repo.git("write-tree")


def run(
    repo: Repo,
    tree: str,
    check: Check,
    *,
    policy: PolicyStack | None = None,
    base: str = "",
    said: list[str] | None = None,
) -> CheckEvidence:
    progress = (lambda _: None) if said is None else said.append
    replayer = Replayer(session_of(repo).repository, environ=repo.environment, progress=progress)
    return replayer.of_tree(tree, [check], policy, base_tree=base)[check.name]


def kept(repo: Repo) -> list[Path]:
    folder = Path(repo.environment["SAFEAI_PREPARED"])
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


class TestOnce:
    def test_for_each_content_of_the_lock_files_and_each_command(self, checked: Repo) -> None:
        check = Check("uses", "cat env/made", setup=SETUP)
        one = tree_with(checked, lock="one\n")
        first = run(checked, one, check)
        assert first.result == "passed", first.detail
        other_file = tree_with(checked, lock="one\n", **{"src/a": "changed\n"})
        again = run(checked, other_file, check)
        assert (again.output_sha256, again.prepared) == (first.output_sha256, first.prepared)
        assert len(kept(checked)) == 1
        other_lock = run(checked, tree_with(checked, lock="two\n"), check)
        assert other_lock.prepared != first.prepared
        assert len(kept(checked)) == 2

    def test_nothing_of_the_change_but_its_lock_files_is_there(self, checked: Repo) -> None:
        look = Setup(
            "mkdir env; find . -type f | sort >/tmp/list; mv /tmp/list env/list",
            ("lock", "deep/lock"),
            ("env",),
        )
        tree = tree_with(checked, lock="l", **{"deep/lock": "d", "env.py": "x", "sitecustomize.py": "x"})
        found = run(checked, tree, Check("look", "cat env/list", setup=look))
        assert found.result == "passed", found
        (place,) = kept(checked)
        assert (place / "content/env/list").read_text() == "./deep/lock\n./lock\n"

    def test_a_check_cannot_change_it(self, checked: Repo) -> None:
        tree = tree_with(checked, lock="one\n")
        writes = Check(
            "writes", "echo bad >>env/made; rm -f env/made; touch env/new; cat env/made", setup=SETUP
        )
        first = run(checked, tree, writes)
        second = run(checked, tree, Check("reads", "ls env; cat env/made", setup=SETUP))
        assert (first.result, second.result) == ("passed", "passed")
        (place,) = kept(checked)
        assert [one.name for one in (place / "content/env").iterdir()] == ["made"]

    def test_two_at_one_time_make_it_once(self, checked: Repo) -> None:
        tree = tree_with(checked, lock="one\n")
        checks = [Check(f"uses-{number}", "cat env/made", setup=SETUP) for number in range(3)]
        replayer = Replayer(session_of(checked).repository, environ=checked.environment, jobs=3)
        found = replayer.of_tree(tree, checks)
        assert {one.result for one in found.values()} == {"passed"}
        assert len({one.output_sha256 for one in found.values()}) == 1
        assert len(kept(checked)) == 1


class TestNoEnvironment:
    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("exit 3", "exit code 3"),
            ("true", "env"),
            ("ln -s /etc env", "env"),
            ("mkdir env && mkfifo env/pipe", "pipe"),
            ("mkdir env; sleep 60", "stopped at its limit: wall"),
        ],
    )
    def test_is_no_answer_and_nothing_is_kept(self, checked: Repo, line: str, why: str) -> None:
        setup = Setup(line, ("lock",), ("env",), timeout_seconds=2 if "sleep" in line else 60)
        found = run(checked, tree_with(checked, lock="x"), Check("uses", "true", setup=setup))
        assert found.result == "undecided"
        assert "no environment could be prepared" in found.detail
        assert why in found.detail
        assert kept(checked) == []

    def test_a_lock_file_that_is_missing_or_a_link(self, checked: Repo) -> None:
        check = Check("uses", "true", setup=SETUP)
        assert "has no lock file lock" in run(checked, tree_with(checked), check).detail
        (checked.path / "lock").symlink_to("src/a")
        assert "has no lock file lock" in run(checked, tree_with(checked), check).detail

    def test_what_the_tree_has_of_its_own_is_not_covered(self, checked: Repo) -> None:
        tree = tree_with(checked, lock="x", **{"env/made": "by the change"})
        found = run(checked, tree, Check("uses", "cat env/made", setup=SETUP))
        assert (found.result, "of its own" in found.detail) == ("undecided", True), found


class TestVerified:
    def test_what_was_changed_is_made_anew(self, checked: Repo) -> None:
        tree, check = tree_with(checked, lock="one\n"), Check("uses", "cat env/made", setup=SETUP)
        first = run(checked, tree, check)
        (place,) = kept(checked)
        made = place / "content/env/made"
        status = made.stat()
        made.write_bytes(b"X" * status.st_size)
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
        said: list[str] = []
        again = run(checked, tree, check, said=said)
        assert again.result == "passed"
        assert any("was changed" in one for one in said)
        assert b"XXX" not in made.read_bytes()
        assert first.prepared != again.prepared  # its content has a time in it
        (place / "content/env/more").touch()
        assert run(checked, tree, check).prepared not in (first.prepared, again.prepared)

    def test_a_copy_of_the_same_content_is_taken(self, checked: Repo) -> None:
        tree, check = tree_with(checked, lock="one\n"), Check("uses", "cat env/made", setup=SETUP)
        first = run(checked, tree, check)
        (place,) = kept(checked)
        subprocess.run(["cp", "-a", place, place.with_name("copy")], check=True)
        subprocess.run(["rm", "-r", place], check=True)
        place.with_name("copy").rename(place)
        assert run(checked, tree, check).prepared == first.prepared

    @pytest.mark.parametrize("rubbish", [b"", b"[]", b'{"content": 1}', b'{"content": "x", "stamp": "y"}'])
    def test_rubbish_is_no_manifest(self, checked: Repo, rubbish: bytes) -> None:
        tree, check = tree_with(checked, lock="one\n"), Check("uses", "cat env/made", setup=SETUP)
        run(checked, tree, check)
        (place,) = kept(checked)
        (place / "manifest.json").write_bytes(rubbish)
        assert run(checked, tree, check).result == "passed"
        assert json.loads((place / "manifest.json").read_bytes())["content"]

    def test_killed_while_it_is_made_it_is_not_there(self, checked: Repo) -> None:
        marker = f"prepares-{os.getpid()}"
        policy = (checked.path / ".safeai/policy.yaml").read_text()
        line = f"echo begun; : {marker}; sleep 600"
        policy += f"  - {{name: slow, run: 'true', setup: {{run: '{line}', locks: [lock], keeps: [env]}}}}\n"
        checked.commit("a set-up", {".safeai/policy.yaml": policy, "lock": "x"})
        checked.commit("more", {"src/b": "b\n"})
        process = subprocess.Popen(
            [sys.executable, "-m", "safeai_git", "replay", "HEAD", "--check", "slow"],
            cwd=checked.path,
            env=checked.environment,
            stderr=subprocess.PIPE,
        )
        try:
            while not processes_with(marker):
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        while processes_with(marker):
            pass
        assert all(one.name.startswith("making-") for one in kept(checked))


class TestNetwork:
    @contextmanager
    def server(self) -> Iterator[tuple[int, list[str]]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"package")

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
            thread = threading.Thread(target=http.serve_forever, daemon=True)
            thread.start()
            try:
                yield http.server_address[1], asked
            finally:
                http.shutdown()
                thread.join()

    def test_only_the_organisation_gives_it_and_only_to_the_set_up(self, checked: Repo) -> None:
        base = tree_with(checked, lock="reviewed\n")
        proposed = tree_with(checked, lock="proposed\n")
        with self.server() as (port, asked):
            program = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/' + open('lock').read().strip()).read())"
            line = f'mkdir env && /usr/bin/python3 -c "{program}" >env/got'
            setup = Setup(line, ("lock",), ("env",), network=True)
            check = Check("uses", "grep -q package env/got", setup=setup)

            def asks(tree: str, allowed: str | None, *, base_tree: str = base) -> str:
                ours = Policy.from_data({}, {}, "p", "0" * 64)
                layers = [ours]
                if allowed:
                    layers.insert(0, Policy.from_data({"allow_setup_network": allowed}, {}, "o", "1" * 64))
                return run(checked, tree, check, policy=PolicyStack(tuple(layers)), base=base_tree).result

            alone = Policy.from_data({"allow_setup_network": "proposed"}, {}, "p", "0" * 64)
            assert run(checked, base, check, policy=PolicyStack((alone,)), base=base).result == "undecided"
            assert asks(base, None) == asks(base, "never") == asks(proposed, "reviewed") == "undecided"
            assert asks(base, "reviewed", base_tree="") == "undecided"
            assert asked == []
            assert asks(base, "reviewed") == "passed"
            assert asked == ["/reviewed"]
            assert asks(proposed, "proposed") == "passed"
            assert asked == ["/reviewed", "/proposed"]
            without = Check("tries", f'/usr/bin/python3 -c "{program}"', setup=setup)
            policy = PolicyStack(
                (Policy.from_data({"allow_setup_network": "proposed"}, {}, "o", "1" * 64), alone)
            )
            assert run(checked, proposed, without, policy=policy).result == "failed"
            assert asked == ["/reviewed", "/proposed"]

    def test_with_it_no_local_socket_of_the_host_can_be_reached(self, checked: Repo) -> None:
        """Abstract sockets belong to the network, not to the file system."""
        name = f"safeai-{os.getpid()}-{os.urandom(4).hex()}"
        program = (
            "import socket, sys\n"
            "for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
            "  try:\n"
            f"    socket.socket(socket.AF_UNIX, kind).connect('\\0{name}')\n"
            "    print('REACHED')\n"
            "  except OSError as error: print(error.strerror)\n"
            "try:\n"
            "  pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            f"  pair[0].connect('\\0{name}')\n"
            "  print('REACHED')\n"
            "except OSError as error: print(error.strerror)\n"
            "socket.socketpair()\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(f"\0{name}")
            listener.accept()[0].close()
            line = f"mkdir env && cat >p.py <<'END'\n{program}END\n/usr/bin/python3 p.py >env/got"
            setup = Setup(line, ("lock",), ("env",), network=True)
            policy = PolicyStack(
                (
                    Policy.from_data({"allow_setup_network": "proposed"}, {}, "o", "1" * 64),
                    Policy.from_data({}, {}, "p", "0" * 64),
                )
            )
            tree = tree_with(checked, lock="x")
            found = run(checked, tree, Check("uses", "cat env/got", setup=setup), policy=policy)
            assert found.result == "passed", found
            (place,) = kept(checked)
            got = (place / "content/env/got").read_text()
            assert "REACHED" not in got
            assert got.splitlines() == [
                "Address family not supported by protocol",
                "Address family not supported by protocol",
                "Socket type not supported",
            ]


class TestBounds:
    def test_what_is_larger_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "from/env/deep").mkdir(parents=True)
        (tmp_path / "from/env/a").write_bytes(b"12345")
        (tmp_path / "from/env/deep/b").write_bytes(b"12345")
        with harvest.folder(tmp_path / "from") as root:
            for number, bounds in enumerate((harvest.Bounds(2, 100), harvest.Bounds(9, 9))):
                with pytest.raises(harvest.Unreadable):
                    harvest.copy(root, "env", tmp_path / f"to-{number}", bounds)
            harvest.copy(root, "env", tmp_path / "to", harvest.Bounds(3, 10))
        with harvest.folder(tmp_path / "from/env") as one, harvest.folder(tmp_path / "to") as other:
            assert harvest.listing(one) == harvest.listing(other)
            assert harvest.size(other) == 10 + 3 * 4096 + sum(
                path.stat().st_size for path in [tmp_path / "to/deep"]
            )
