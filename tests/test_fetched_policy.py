"""The organisation's policy comes from the Governor: fresh, kept for when it is away, and refused where it lies."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Repo
from test_push import KEY, governed, named, registered
from tools_governor import Governor
from tools_log import LOG_SIGNER, ORIGIN, OTHER_SIGNER

from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.publickey import format_openssh
from safeai_git.fetched_policy import ASK_AFTER_SECONDS
from safeai_git.published_policy import publish

FAR = int(time.time()) + 86_400
CLOSED = b"deny_paths: [src/closed/]\n"


def work(repo: Repo) -> Repo:
    repo.write("src/closed/f.py", "x = 1\n")
    repo.git("add", "-A")
    return repo


def check(repo: Repo, env: dict[str, str]) -> tuple[int, str]:
    done = repo.safeai("check", env=env | {"CLAUDECODE": "1", "SAFEAI_ORG_POLICY": "governor"})
    return done.code, done.both


def state(repo: Repo) -> Path:
    return Path(repo.environment["XDG_STATE_HOME"]) / "safeai-git"


def copies(repo: Repo) -> list[Path]:
    return list(state(repo).rglob("*.policy"))


def age(repo: Repo) -> None:
    """As if the Governor had been asked some time ago."""
    then = time.time() - ASK_AFTER_SECONDS - 1
    for path in state(repo).rglob("*.asked"):
        os.utime(path, (then, then))


def test_it_is_fetched_kept_and_renewed(tmp_path: Path, environment: dict[str, str]) -> None:
    with Governor(tmp_path / "governor") as governor:
        repo = work(registered(governed(tmp_path / "repo", environment, governor.url), governor))
        env = named(repo, governor)
        assert check(repo, env)[0] == 3
        assert "no policy is published" in check(repo, env)[1]
        body = {"policy": CLOSED.decode(), "expires": "2100-01-01T00:00:00Z"}
        assert governor.ask("POST", "/v1/policy", body).status == 201
        code, said = check(repo, env)
        assert (code, "src/closed/f.py" in said) == (1, True), said
        assert len(copies(repo)) == 1
        looser = body | {"policy": "deny_paths: [src/other/]\n"}
        assert governor.ask("POST", "/v1/policy", looser).status == 201
        assert check(repo, env)[0] == 1  # asked a moment ago
        age(repo)
        assert check(repo, env)[0] == 0
        assert governor.ask("POST", "/v1/policy", body).status == 201
        assert check(repo, env)[0] == 0
        assert repo.safeai("push", env=env | {"SAFEAI_ORG_POLICY": "governor"}).code == 0  # asks at once
        assert check(repo, env)[0] == 1
        governor.stop(9)
        age(repo)
        assert check(repo, env)[0] == 1  # from the copy
        for path in copies(repo):
            path.unlink()
        code, said = check(repo, env)
        assert (code, "the organisation's policy cannot be had" in said) == (3, True), said


class Liar(ThreadingHTTPServer):
    """Serves whatever it is told to as the organisation's policy."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status, self.policy = 200, b""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/v1/policy"
                self.send_response(server.status if known else 503)
                self.end_headers()
                self.wfile.write(server.policy if known else b"")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    yield made
    made.shutdown()
    made.server_close()


def served(version: int, *, expires: int = FAR, signer: object = LOG_SIGNER, text: bytes = CLOSED) -> bytes:
    return publish(text, organisation=ORIGIN, version=version, expires=expires, signer=signer)  # type: ignore[arg-type]


def test_what_does_not_count_is_refused_and_said(
    tmp_path: Path, environment: dict[str, str], liar: Liar
) -> None:
    repo = governed(tmp_path / "repo", environment, "https://elsewhere.example")
    plain = "safe_mode: true\nautonomy_tier: beta\nallow_paths: [src/, .safeai/]\n"
    repo.commit("without a governor", {".safeai/policy.yaml": plain})
    repo = work(repo)
    env = {"SAFEAI_GOVERNOR": f"http://127.0.0.1:{liar.server_port}", "SAFEAI_GOVERNOR_KEY": KEY.format()}
    liar.policy = served(3)
    assert check(repo, env)[0] == 1
    kept = copies(repo)[0].read_bytes()
    table = [
        (served(2), "version 3 was seen already"),
        (served(3, text=b"deny_paths: [src/x/]\n"), "two policies"),
        (served(4, signer=OTHER_SIGNER), "is not a policy that the organisation published"),
        (served(4, expires=int(time.time()) - 1), "has expired"),
        (served(4) + b"# more\n", "is not the one that was signed"),
        (served(4, text=b"allow_path: [x]\n"), "allow_path"),
        (b"", "is not a policy"),
        (b"x" * 2_000_000, "is not a policy"),
    ]
    for answer, why in table:
        liar.policy = answer
        age(repo)
        code, said = check(repo, env)
        assert (code, why in said) == (3, True), (why, said)
        assert copies(repo)[0].read_bytes() == kept
    # Whoever stole a former key cannot publish either.
    present = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw).format()
    exchanged = env | {"SAFEAI_GOVERNOR_KEY": f"{KEY.format()}@9 {present}"}
    liar.policy = served(4)
    age(repo)
    code, said = check(repo, exchanged)
    assert (code, "is not a policy that the organisation published" in said) == (3, True), said
    liar.status, liar.policy = 302, b""
    age(repo)
    assert check(repo, env)[0] == 3
    liar.status = 500
    assert check(repo, env)[0] == 1  # away, not lying: the copy serves until it ends

    liar.status, liar.policy = 200, served(4, signer=OTHER_SIGNER)
    signers = tmp_path / "signers"
    signers.write_bytes(b'acme namespaces="safeai-policy" ' + format_openssh(OTHER_SIGNER.public))
    age(repo)
    code, said = check(repo, env | {"SAFEAI_ORG_SIGNERS": str(signers)})
    assert code == 1, said  # the organisation's own signers come before the log's keys


def test_a_machine_that_names_no_governor_cannot_have_its_policy(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    repo = work(governed(tmp_path / "repo", environment, "https://elsewhere.example"))
    code, said = check(repo, {})
    assert (code, "this machine names none" in said) == (3, True), said
