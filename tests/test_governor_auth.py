"""Who may ask the Governor for what: forged, stolen, stale and confused proofs are refused, each for its reason."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from safeai_git.core.errors import KeyUnusable, PolicyError, WrongUse
from safeai_git.governor.auth import jwks, rules, tokens
from safeai_git.governor.auth.authenticator import Authenticator, Request, build
from safeai_git.governor.auth.principal import SCOPES, NotAuthenticated
from safeai_git.governor.settings import VARIABLES, Settings, read_settings
from safeai_git.keys.webtoken import parse_pem

SECRET = "a-secret-of-more-than-thirty-two-bytes"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return str(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    )


def private_pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": "safeai-governor",
        "aud": "safeai-governor",
        "sub": "ci@example.com",
        "iat": now,
        "exp": now + 600,
        "scope": "verdicts:write log:read",
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def hs256(key: str = SECRET, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="HS256", headers=headers)


def by_hand(header: dict[str, Any], body: object, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hmac_with_the_public_key() -> str:
    """The oldest trick: the RSA public key, which everybody has, as the HMAC secret."""
    import hashlib
    import hmac

    head = by_hand({"alg": "HS256", "typ": "JWT"}, claims()).rpartition(".")[0]
    digest = hmac.new(pem(RSA.public_key()).encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def own(algorithm: tokens.Algorithm = "HS256") -> Authenticator:
    key = SECRET.encode() if algorithm == "HS256" else parse_pem(pem(RSA.public_key()), "RS256")
    return Authenticator(
        tokens.TokenVerifier("safeai-governor", "safeai-governor", algorithm, tokens.one_key(key))
    )


def ask(authenticator: Authenticator, token: str, peer: str = "192.0.2.1") -> Any:
    return authenticator.authenticate(Request({"authorization": f"Bearer {token}"}, peer))


def refused(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        ask(authenticator, token)
    return caught.value.reason


def test_a_token_says_who_and_what() -> None:
    who = ask(own(), hs256(repositories=["a/b"]))
    assert (who.subject, who.method) == ("ci@example.com", "token")
    assert who.may("verdicts:write", "a/b")
    assert not who.may("verdicts:write", "a/c")
    assert not who.may("verdicts:write")
    assert not who.may("policy:write", "a/b")
    assert ask(own(), hs256()).may("log:read")
    assert not any(ask(own(), hs256(scope=None)).may(scope) for scope in SCOPES)
    assert not ask(own(), hs256(scope="everything admin")).grants[0].scopes


now = int(time.time())

ATTACKS: list[tuple[str, tokens.Algorithm, Callable[[], str], str]] = [
    (
        "another secret",
        "HS256",
        lambda: hs256("another-secret-of-more-than-32-bytes!"),
        "token-bad-signature",
    ),
    ("alg none", "HS256", lambda: by_hand({"alg": "none"}, claims()), "token-wrong-algorithm"),
    ("alg nOnE", "HS256", lambda: by_hand({"alg": "nOnE"}, claims()), "token-wrong-algorithm"),
    ("alg none to RS256", "RS256", lambda: by_hand({"alg": "none"}, claims()), "token-wrong-algorithm"),
    ("no alg", "HS256", lambda: by_hand({"typ": "JWT"}, claims()), "token-wrong-algorithm"),
    ("alg a list", "HS256", lambda: by_hand({"alg": ["HS256"]}, claims()), "token-wrong-algorithm"),
    ("HMAC with the public key", "RS256", hmac_with_the_public_key, "token-wrong-algorithm"),
    ("HS512", "HS256", lambda: jwt.encode(claims(), SECRET * 2, algorithm="HS512"), "token-wrong-algorithm"),
    ("PS256", "RS256", lambda: jwt.encode(claims(), RSA, algorithm="PS256"), "token-wrong-algorithm"),
    (
        "another RSA key",
        "RS256",
        lambda: jwt.encode(claims(), OTHER_RSA, algorithm="RS256"),
        "token-bad-signature",
    ),
    ("a time as text", "HS256", lambda: hs256(exp=str(now + 600)), "token-malformed"),
    ("the other one", "HS256", lambda: hs256(iat=str(now)), "token-malformed"),
    ("empty signature", "HS256", lambda: hs256().rpartition(".")[0] + ".", "token-bad-signature"),
    (
        "body exchanged",
        "HS256",
        lambda: _with_body(hs256(), claims(scope="policy:write")),
        "token-bad-signature",
    ),
    (
        "header exchanged",
        "HS256",
        lambda: _with_header(hs256(), {"alg": "HS256", "kid": "x"}),
        "token-bad-signature",
    ),
    ("expired", "HS256", lambda: hs256(iat=now - 900, exp=now - 300), "token-expired"),
    ("never expires", "HS256", lambda: hs256(exp=None), "token-incomplete"),
    ("expires in ten years", "HS256", lambda: hs256(exp=now + 10 * 366 * 86_400), "token-too-long-lived"),
    ("issued tomorrow", "HS256", lambda: hs256(iat=now + 86_400, exp=now + 90_000), "token-not-yet-valid"),
    ("not before tomorrow", "HS256", lambda: hs256(nbf=now + 86_400), "token-not-yet-valid"),
    ("without iat", "HS256", lambda: hs256(iat=None), "token-incomplete"),
    ("without sub", "HS256", lambda: hs256(sub=None), "token-incomplete"),
    ("sub empty", "HS256", lambda: hs256(sub=""), "token-malformed"),
    ("sub with a line end", "HS256", lambda: hs256(sub="a\nb"), "token-malformed"),
    ("sub a number", "HS256", lambda: by_hand({"alg": "HS256"}, claims(sub=5)), "token-bad-signature"),
    ("another audience", "HS256", lambda: hs256(aud="somebody-else"), "token-wrong-audience"),
    ("without audience", "HS256", lambda: hs256(aud=None), "token-incomplete"),
    ("another issuer", "HS256", lambda: hs256(iss="https://evil.example"), "token-wrong-issuer"),
    ("issuer with a slash more", "HS256", lambda: hs256(iss="safeai-governor/"), "token-wrong-issuer"),
    ("critical header", "HS256", lambda: hs256(headers={"crit": ["b64"], "b64": True}), "token-malformed"),
    ("kid of a megabyte", "HS256", lambda: hs256(headers={"kid": "k" * 2000}), "token-malformed"),
    (
        "key in the header",
        "RS256",
        lambda: jwt.encode(
            claims(),
            OTHER_RSA,
            algorithm="RS256",
            headers={"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))},
        ),
        "token-bad-signature",
    ),
    (
        "address of a key in the header",
        "RS256",
        lambda: jwt.encode(
            claims(), OTHER_RSA, algorithm="RS256", headers={"jku": "https://evil.example/keys"}
        ),
        "token-bad-signature",
    ),
    ("scope a list", "HS256", lambda: hs256(scope=["policy:write"]), "token-malformed"),
    ("repositories a text", "HS256", lambda: hs256(repositories="a/b"), "token-malformed"),
    ("too long", "HS256", lambda: hs256(padding="x" * 9000), "token-malformed"),
    ("two parts", "HS256", lambda: "a.b", "token-malformed"),
    ("no base64", "HS256", lambda: "!.?.!", "token-malformed"),
    ("deep JSON", "HS256", lambda: _raw(b'{"alg":"HS256"}', b"[" * 3000), "token-malformed"),
    ("body a list", "HS256", lambda: by_hand({"alg": "HS256"}, []), "token-malformed"),
    ("encrypted", "HS256", lambda: "e30.e30.e30.e30.e30", "token-malformed"),
]


def _with_body(token: str, body: dict[str, Any]) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{by_hand({}, body).split('.')[1]}.{signature}"


def _with_header(token: str, header: dict[str, Any]) -> str:
    return ".".join([by_hand(header, {}).split(".")[0], *token.split(".")[1:]])


def _raw(head: bytes, body: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (head, body, b"s"))


@pytest.mark.parametrize(
    ("algorithm", "make", "reason"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS]
)
def test_B89_token(algorithm: tokens.Algorithm, make: Callable[[], str], reason: str) -> None:
    good = hs256() if algorithm == "HS256" else jwt.encode(claims(), RSA, algorithm="RS256")
    assert ask(own(algorithm), good).subject == "ci@example.com"
    assert refused(own(algorithm), make()) == reason


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_B89_any_authorization_is_answered(data: bytes) -> None:
    with pytest.raises(NotAuthenticated):
        own().authenticate(Request({"authorization": data.decode("latin-1")}, "192.0.2.1"))


def test_a_clock_may_differ_a_little() -> None:
    assert ask(own(), hs256(exp=int(time.time()) - 5)).subject


def test_eddsa() -> None:
    key = parse_pem(pem(ED.public_key()), "EdDSA")
    verifier = tokens.TokenVerifier("safeai-governor", "safeai-governor", "EdDSA", tokens.one_key(key))
    token = jwt.encode(claims(), ED, algorithm="EdDSA")
    assert ask(Authenticator(verifier), token).subject == "ci@example.com"


@pytest.mark.parametrize(
    ("text", "algorithm", "words"),
    [
        ("", "RS256", "no public key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "RS256", "no public key in PEM"),
        (pem(ED.public_key()), "RS256", "does not serve RS256"),
        (pem(RSA.public_key()), "EdDSA", "does not serve EdDSA"),
        (pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "RS256", "does not serve RS256"),
        (
            pem(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()),
            "RS256",
            "1024 bits",
        ),
    ],
)
def test_keys_that_will_not_do(text: str, algorithm: str, words: str) -> None:
    with pytest.raises(KeyUnusable, match=words):
        parse_pem(text, algorithm)


# Issuing


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
def test_issued_tokens_are_read(algorithm: tokens.Algorithm) -> None:
    private = {"HS256": SECRET, "RS256": private_pem(RSA), "EdDSA": private_pem(ED)}[algorithm]
    public = (
        SECRET.encode()
        if algorithm == "HS256"
        else parse_pem(pem(RSA.public_key() if algorithm == "RS256" else ED.public_key()), algorithm)
    )
    token = tokens.issue(
        key=private, algorithm=algorithm, issuer="i", audience="a", subject="s",
        scopes=frozenset({"log:read"}), seconds=60, repositories=frozenset({"x/y"}),
    )  # fmt: skip
    verifier = tokens.TokenVerifier("i", "a", algorithm, tokens.one_key(public))
    assert ask(Authenticator(verifier), token).may("log:read", "x/y")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scopes": frozenset({"all"})}, "there is no scope all"),
        ({"seconds": 0}, "1 to"),
        ({"seconds": 10**9}, "1 to"),
        ({"algorithm": "RS256"}, "no RS256 token can be made"),
    ],
)
def test_tokens_that_cannot_be_issued(changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "key": SECRET, "algorithm": "HS256", "issuer": "i", "audience": "a", "subject": "s",
        "scopes": frozenset({"log:read"}), "seconds": 60,
    } | changes  # fmt: skip
    with pytest.raises(WrongUse, match=words):
        tokens.issue(**given)


# Keys from afar


class Door:
    """An issuer's address: answers what it is told, and counts."""

    def __init__(self) -> None:
        self.answer: bytes | OSError = b"{}"
        self.asked = 0
        self.time = 0.0

    def get(self, _: str) -> bytes:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def keys(self) -> jwks.RemoteKeys:
        return jwks.RemoteKeys("https://issuer.example/jwks", "RS256", get=self.get, clock=lambda: self.time)


def jwk(key: rsa.RSAPrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return made | {"kid": kid, "use": "sig"} | more


def jwks_of(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"keys": rows}).encode()


def missing(keys: jwks.RemoteKeys, kid: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        keys(kid)
    return caught.value.reason


def test_keys_rotate_and_made_up_ids_do_not_knock_each_time() -> None:
    door = Door()
    door.answer = jwks_of(jwk(RSA, "one"))
    keys = door.keys()
    assert keys("one") == RSA.public_key()
    for number in range(50):
        assert missing(keys, f"made-up-{number}") == "token-unknown-key"
    assert door.asked == 1
    door.answer, door.time = jwks_of(jwk(OTHER_RSA, "two")), jwks.BETWEEN_SECONDS
    assert keys("two") == OTHER_RSA.public_key()
    assert missing(keys, "one") == "token-unknown-key"
    assert door.asked == 2


def test_a_token_that_was_good_once_is_held_against_its_issuers_keys_each_time() -> None:
    door = Door()
    door.answer = jwks_of(jwk(RSA, "one"))
    reader = Authenticator(tokens.TokenVerifier("safeai-governor", "safeai-governor", "RS256", door.keys()))
    token = jwt.encode(claims(), private_pem(RSA), algorithm="RS256", headers={"kid": "one"})
    first = ask(reader, token)
    assert ask(reader, token) is first
    assert refused(reader, token[:-8] + "AAAAAAAA") == "token-bad-signature"
    # The same key, fetched again: asked anew, and found good.
    door.time = jwks.FRESH_SECONDS + 1
    assert ask(reader, token) == first
    assert ask(reader, token) is not first
    door.answer, door.time = jwks_of(jwk(OTHER_RSA, "one")), 2 * door.time
    assert refused(reader, token) == "token-bad-signature"
    door.answer, door.time = jwks_of(jwk(RSA, "one")), 2 * door.time
    assert ask(reader, token) == first
    door.answer, door.time = jwks_of(jwk(RSA, "two")), 2 * door.time
    assert refused(reader, token) == "token-unknown-key"


def test_a_token_that_was_good_once_is_good_for_its_time_only() -> None:
    start = int(time.time())
    verifier = own().own
    assert verifier is not None
    _, valid = verifier.read(hs256(iat=start - 60, nbf=start - 50, exp=start + 600))
    assert [valid.holds(start + at) for at in (-81, -80, 0, 629, 630)] == [False, True, True, True, False]
    _, valid = verifier.read(hs256(iat=start - 60, exp=start + 600))
    assert [valid.holds(start + at) for at in (-91, -90)] == [False, True]


def test_no_more_tokens_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeai_git.governor.auth.authenticator.MOST_KNOWN", 3)
    reader = own()
    who = [ask(reader, hs256(sub=f"ci-{number}")) for number in range(10)]
    assert [one.subject for one in who] == [f"ci-{number}" for number in range(10)]
    assert len(reader._known) <= 3


def test_keys_serve_while_the_issuer_is_away_and_not_for_ever() -> None:
    door = Door()
    keys = door.keys()
    door.answer = OSError("away")
    assert missing(keys, "one") == "issuer-unreachable"
    door.answer, door.time = jwks_of(jwk(RSA, "one")), 60.0
    assert keys("one")
    door.answer = OSError("away")
    door.time = 60.0 + jwks.FRESH_SECONDS + 1
    assert keys("one")
    door.time = 60.0 + jwks.STALE_SECONDS + 1
    assert missing(keys, "one") == "issuer-unreachable"


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"null", b"[]", b"{", b'{"keys": 5}', b'{"keys": [5, null, {}]}', b"[" * 100_000,
        jwks_of(jwk(RSA, "one", use="enc")), jwks_of(jwk(RSA, "one", alg="RS512")),
        jwks_of({"kty": "oct", "k": "c2VjcmV0", "kid": "one"}),
        jwks_of({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "one"}),
        jwks_of({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "one"}),
    ],
)  # fmt: skip
def test_B89_an_issuers_answer_without_a_key_of_use(answer: bytes) -> None:
    door = Door()
    door.answer = answer
    assert missing(door.keys(), "one") == "issuer-unreachable"


@pytest.fixture
def issuer() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A real HTTP server with pages that the test puts there."""
    pages: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/jwks")
                self.end_headers()
                return
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_ci_job_is_let_in_by_its_claims(issuer: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, pages = issuer
    pages["/jwks"] = jwks_of(jwk(RSA, "k1"))
    file = tmp_path / "oidc.yaml"
    file.write_text(
        f"issuers:\n  - issuer: https://ci.example\n    jwks_url: {url}/jwks\n    audience: governor-1\n"
        "    rules:\n      - name: the gate\n        claims:\n          repository_id: '7'\n"
        "          job_workflow_ref: [o/w/.github/workflows/gate.yml@refs/heads/main]\n"
        "        repositories: [o/r]\n        scopes: [verdicts:write]\n"
    )
    authenticator = build(settings(SAFEAI_OIDC_RULES=str(file)))

    def token(**changes: Any) -> str:
        given = {
            "iss": "https://ci.example", "aud": "governor-1", "sub": "repo:o/r:ref:refs/heads/x", "scope": "policy:write",
            "repository_id": "7", "job_workflow_ref": "o/w/.github/workflows/gate.yml@refs/heads/main",
            "event_name": "pull_request", "run_id": "99",
        } | changes  # fmt: skip
        return jwt.encode(claims(**given), RSA, algorithm="RS256", headers={"kid": "k1"})

    who = ask(authenticator, token())
    assert (who.method, who.claims["run_id"]) == ("ci", "99")
    assert who.may("verdicts:write", "o/r")
    assert not who.may("verdicts:write", "o/other")
    assert not who.may("policy:write", "o/r"), "a CI token's own scope counts for nothing"
    assert ask(authenticator, token(repository_id=7)).may("verdicts:write", "o/r")
    attempts: list[tuple[dict[str, Any], str]] = [
        ({"repository_id": "8"}, "no-rule"),
        ({"repository_id": ["7"]}, "no-rule"),
        ({"job_workflow_ref": "o/w/.github/workflows/gate.yml@refs/heads/evil"}, "no-rule"),
        ({"event_name": "pull_request_target"}, "no-rule"),
        ({"aud": "safeai-governor"}, "token-wrong-audience"),
        ({"aud": "https://github.com/o"}, "token-wrong-audience"),
        ({"iss": "https://ci.example/"}, "token-wrong-issuer"),
        ({"exp": now + 90_000}, "token-too-long-lived"),
    ]
    for changes, reason in attempts:
        assert refused(authenticator, token(**changes)) == reason, changes


def test_an_issuer_that_points_elsewhere_or_floods_is_not_followed(
    issuer: tuple[str, dict[str, bytes]],
) -> None:
    url, pages = issuer
    pages["/jwks"] = jwks_of(jwk(RSA, "one"))
    pages["/flood"] = b" " * (jwks.LARGEST + 1)
    assert jwks.fetch(f"{url}/jwks") == pages["/jwks"]
    for page in ("/elsewhere", "/flood", "/nothing"):
        with pytest.raises(OSError, match=r".+"):
            jwks.fetch(url + page)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "says nothing"),
        ("issuers: []\n", "list that is not empty"),
        ("issuer: x\n", "unknown key 'issuer'"),
        ("issuers:\n  - issuer: https://x\n    audience: a\n    rules: []\n", "list that is not empty"),
        ("issuers:\n  - issuer: ftp://x\n    audience: a\n    rules:\n      - {name: n, claims: {a: b}, scopes: [log:read]}\n", "https://"),
        ("issuers:\n  - issuer: https://x\n    audience: a\n    rules:\n      - {name: n, claims: {}, scopes: [log:read]}\n", "fit everybody"),
        ("issuers:\n  - issuer: https://x\n    audience: a\n    rules:\n      - {name: n, claims: {a: b}, scopes: [log:rad]}\n", "did you mean 'log:read'"),
        ("issuers:\n  - issuer: https://x\n    rules:\n      - {name: n, claims: {a: b}, scopes: [log:read]}\n", "'audience'"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        rules.load_issuers(text.encode(), "oidc.yaml")


# Certificates


def certificate(common_name: str, *uris: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
    )
    if uris:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        made = made.add_extension(san, critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def as_header(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return quote(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")


CERTIFICATE_RULES = b"""\
certificates:
  - {name: ci, match: {subject: "CN=ci"}, scopes: [verdicts:write], repositories: [a/b]}
  - {name: people, match: {san: "spiffe://corp/ops"}, scopes: [kill-switch:engage]}
"""


def by_certificate(**headers: str) -> Any:
    authenticator = Authenticator(
        certificate_rules=rules.load_certificates(CERTIFICATE_RULES, "certificates.yaml"),
        trusted_proxies=(ip_network("10.0.0.0/8"),),
    )
    peer = headers.pop("peer", "10.1.2.3")
    return authenticator.authenticate(
        Request({name.replace("_", "-"): value for name, value in headers.items()}, peer)
    )


def test_a_certificate_from_the_ingress() -> None:
    der = certificate("ci")
    who = by_certificate(ssl_client_verify="SUCCESS", ssl_client_cert=as_header(der))
    assert (who.subject, who.method) == ("CN=ci", "certificate")
    assert who.may("verdicts:write", "a/b")
    assert not who.may("kill-switch:engage")
    der = certificate("anybody", "spiffe://corp/other", "spiffe://corp/ops")
    assert by_certificate(ssl_client_verify="SUCCESS", ssl_client_cert=as_header(der)).may(
        "kill-switch:engage"
    )
    mapped = by_certificate(
        ssl_client_verify="SUCCESS", ssl_client_cert=as_header(der), peer="::ffff:10.1.2.3"
    )
    assert mapped.method == "certificate"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"peer": "192.0.2.9"}, "certificate-untrusted-peer"),
        ({"peer": "not-an-address"}, "certificate-untrusted-peer"),
        ({"ssl_client_verify": "FAILED:unable to verify"}, "certificate-not-verified"),
        ({"ssl_client_verify": "SUCCESS,NONE"}, "certificate-not-verified"),
        ({"ssl_client_verify": ""}, "certificate-not-verified"),
        ({"ssl_client_cert": ""}, "certificate-malformed"),
        ({"ssl_client_cert": as_header(b"\x30\x00")}, "certificate-malformed"),
        ({"ssl_client_cert": "x" * 40_000}, "certificate-malformed"),
        ({"ssl_client_cert": as_header(certificate("stranger"))}, "no-rule"),
        ({"ssl_client_cert": as_header(certificate("CN=ci"))}, "no-rule"),
        ({"ssl_client_cert": as_header(certificate("x", "spiffe://corp/ops/../x"))}, "no-rule"),
    ],
)
def test_B89_certificate(headers: dict[str, str], reason: str) -> None:
    good = {"ssl_client_verify": "SUCCESS", "ssl_client_cert": as_header(certificate("ci"))}
    assert by_certificate(**good).subject == "CN=ci"
    with pytest.raises(NotAuthenticated) as caught:
        by_certificate(**good | headers)
    assert caught.value.reason == reason


def test_a_rule_on_what_no_certificate_has() -> None:
    text = b"certificates:\n  - {name: x, match: {issuer: y}, scopes: [log:read]}\n"
    with pytest.raises(PolicyError, match="a certificate has no 'issuer'"):
        rules.load_certificates(text, "certificates.yaml")


# Without, and with, configuration


def settings(**environ: str) -> Settings:
    return read_settings(environ)


def test_without_authentication_only_this_machine_is_served() -> None:
    authenticator = build(settings())
    assert not authenticator.configured
    assert authenticator.authenticate(Request({}, "127.0.0.1")).may("policy:write")
    assert authenticator.authenticate(Request({}, "::1")).may("policy:write")
    for peer in ("192.0.2.1", "", "localhost"):
        with pytest.raises(NotAuthenticated, match="not-loopback"):
            authenticator.authenticate(Request({}, peer))


def test_with_authentication_loopback_is_nothing_special() -> None:
    authenticator = build(settings(SAFEAI_JWT_SECRET=SECRET))
    with pytest.raises(NotAuthenticated, match="missing"):
        authenticator.authenticate(Request({}, "127.0.0.1"))


def test_a_secret_beside_a_public_key_counts_for_nothing() -> None:
    """As the deployment guide sets them: all at once, with the algorithm RS256."""
    public = pem(RSA.public_key())
    authenticator = build(
        settings(SAFEAI_JWT_SECRET=SECRET, SAFEAI_JWT_ALGORITHM="RS256", SAFEAI_JWT_PUBLIC_KEY=public)
    )
    assert ask(authenticator, jwt.encode(claims(), RSA, algorithm="RS256")).subject
    assert refused(authenticator, hs256()) == "token-wrong-algorithm"


@pytest.mark.parametrize(
    ("environ", "error", "words"),
    [
        ({"SAFEAI_JWT_SECRET": "short"}, WrongUse, "32 or more"),
        ({"SAFEAI_JWT_ALGORITHM": "RS256"}, WrongUse, "there is no public key"),
        ({"SAFEAI_JWT_PUBLIC_KEY": "x"}, WrongUse, "SAFEAI_JWT_ALGORITHM is HS256"),
        ({"SAFEAI_JWT_PUBLIC_KEY": "x", "SAFEAI_JWT_ALGORITHM": "EdDSA"}, KeyUnusable, "PEM"),
        ({"SAFEAI_OIDC_RULES": "/nonexistent/rules"}, PolicyError, "cannot be read"),
        ({"SAFEAI_CERTIFICATE_RULES": "/nonexistent/rules"}, PolicyError, "cannot be read"),
    ],
)
def test_what_cannot_be_authenticated_with(
    environ: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build(settings(**environ))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SAFEAI_JWT_SECERT": "x"}, "no setting of the Governor"),
        ({"SAFEAI_ENABLE": "true"}, "'on' or 'off'"),
        ({"SAFEAI_PORT": "80.5"}, "whole number"),
        ({"SAFEAI_PORT": "70000"}, "whole number"),
        ({"SAFEAI_PORT": "\u0663"}, "whole number"),
        ({"SAFEAI_LOG_LEVEL": "LOUD"}, "one of DEBUG"),
        ({"SAFEAI_JWT_ALGORITHM": "none"}, "one of HS256"),
        ({"SAFEAI_JWT_JWKS_URL": "http://keys.example/jwks"}, "https://"),
        ({"SAFEAI_LOG_ORIGIN": "https://x"}, "without a scheme"),
        ({"SAFEAI_TRUSTED_PROXIES": "10.0.0.0/8, everywhere"}, "everywhere"),
        ({"SAFEAI_TLS_CERT": "/x"}, "need each other"),
        ({"SAFEAI_TLS_CLIENT_CA": "/x"}, "needs SAFEAI_TLS_CERT"),
        ({"SAFEAI_JWT_SECRET": "a", "SAFEAI_JWT_SECRET_FILE": "/x"}, "both set"),
        ({"SAFEAI_JWT_SECRET_FILE": "/nonexistent"}, "cannot be read"),
        ({"SAFEAI_JWT_PUBLIC_KEY": "x", "SAFEAI_JWT_JWKS_URL": "https://x"}, "both set"),
    ],
)
def test_settings_that_make_no_sense(environ: dict[str, str], words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        read_settings(environ)


def test_settings() -> None:
    made = settings(
        SAFEAI_DATA_DIR="/data", SAFEAI_ENABLE="off", SAFEAI_TRUSTED_PROXIES="10.0.0.0/8, fd00::/8"
    )
    assert (made.data_dir, made.enabled, made.port) == (Path("/data"), False, 8000)
    assert made.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert {variable.field for variable in VARIABLES} == set(Settings.__slots__)
    # what Kubernetes sets beside every pod for a Service called safeai
    assert settings(SAFEAI_SERVICE_HOST="10.0.0.1", SAFEAI_PORT_8000_TCP="tcp://10.0.0.1:8000")


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    made = settings(SAFEAI_JWT_SECRET_FILE=str(file), SAFEAI_DATABASE_URL="postgresql://u:p4ss@h/d")
    assert made.jwt_secret == SECRET
    assert SECRET not in repr(made)
    assert "p4ss" not in repr(made)
    assert "jwt_secret=***" in repr(made)
    with pytest.raises(WrongUse) as caught:
        settings(SAFEAI_JWT_SECRET_FILE=str(tmp_path))
    assert SECRET not in str(caught.value)
