"""JSON Web Tokens: one algorithm, one issuer, one audience; everything else is refused.

The algorithm is the verifier's, never the token's (RFC 8725 §3.1), so neither ``none`` nor a public key taken for an
HMAC secret can be talked into it. A token must expire, and not after more than `LONGEST_SECONDS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from safeai_git.core.errors import WrongUse
from safeai_git.governor.auth.principal import SCOPES, Grant, NotAuthenticated, Principal
from safeai_git.keys.webtoken import TokenKey

Algorithm = Literal["HS256", "RS256", "EdDSA"]

LONGEST_SECONDS = 366 * 86_400
LONGEST_TOKEN = 8_192
LEAST_SECRET_BYTES = 32

_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "token-expired"),
    (jwt.ImmatureSignatureError, "token-not-yet-valid"),
    (jwt.InvalidIssuedAtError, "token-not-yet-valid"),
    (jwt.InvalidAudienceError, "token-wrong-audience"),
    (jwt.InvalidIssuerError, "token-wrong-issuer"),
    (jwt.MissingRequiredClaimError, "token-incomplete"),
    (jwt.InvalidAlgorithmError, "token-wrong-algorithm"),
    (jwt.InvalidSignatureError, "token-bad-signature"),
)

Keys = Callable[[str], TokenKey]
"""The key of a ``kid`` (empty where the token names none); raises `NotAuthenticated` for one that is not known."""


def one_key(key: TokenKey) -> Keys:
    """The same key for every token."""
    return lambda _kid: key


def secret(text: str) -> bytes:
    """The key of HS256.

    Raises:
        WrongUse: It is shorter than 32 bytes (RFC 7518 §3.2).
    """
    if len(text.encode()) < LEAST_SECRET_BYTES:
        raise WrongUse(
            f"SAFEAI_JWT_SECRET has {len(text.encode())} bytes; HS256 needs {LEAST_SECRET_BYTES} or more",
            hint="make one with 'openssl rand -base64 48'",
        )
    return text.encode()


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Reads tokens of one issuer.

    Attributes:
        issuer, audience: Exactly these.
        algorithm: The only one.
        keys: See `Keys`.
        leeway_seconds: By how much the issuer's clock may differ.
        longest_seconds: From ``iat`` to ``exp``.
    """

    issuer: str
    audience: str
    algorithm: Algorithm
    keys: Keys
    leeway_seconds: int = 30
    longest_seconds: int = LONGEST_SECONDS

    def read(self, token: str) -> tuple[Mapping[str, Any], Valid]:
        """The claims of a token that is valid now, and what that rests on.

        Raises:
            NotAuthenticated: It is not.
        """
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated("token-malformed", f"{len(token):,} characters")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid", "")
            if header.get("alg") != self.algorithm:
                raise NotAuthenticated("token-wrong-algorithm", f"alg is {str(header.get('alg'))[:40]!r}")
            if "crit" in header:
                raise NotAuthenticated("token-malformed", "critical header parameters are not understood")
            if not isinstance(kid, str) or len(kid) > 256:
                raise NotAuthenticated("token-malformed", "kid is no short text")
            key = self.keys(kid)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[self.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway_seconds,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            reason = next((word for kind, word in _REASONS if isinstance(error, kind)), "token-malformed")
            raise NotAuthenticated(reason, str(error)) from None
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise NotAuthenticated("token-malformed", str(error)) from None
        if not all(isinstance(claims.get(name, 0), int | float) for name in ("iat", "nbf", "exp")):
            raise NotAuthenticated("token-malformed", "a time in it is no number")
        if claims["exp"] - claims["iat"] > self.longest_seconds:
            raise NotAuthenticated("token-too-long-lived", f"more than {self.longest_seconds:,} seconds")
        begins = max(int(claims["iat"]), int(claims.get("nbf", claims["iat"])))
        return claims, Valid(self, kid, key, begins, int(claims["exp"]))


@dataclass(frozen=True, slots=True)
class Valid:
    """What it rests on that a token was found good: whoever holds the same one again need not be asked everything anew.

    Attributes:
        verifier: Whose token it is.
        kid, key: What it was signed with.
        begins, ends: Unix times: the later one of ``iat`` and ``nbf``, and ``exp``.
    """

    verifier: TokenVerifier
    kid: str
    key: TokenKey
    begins: int
    ends: int

    def holds(self, now: float) -> bool:
        """Whether it is still good: its time has come and is not over, and its key is the very one that its issuer has.

        Raises:
            NotAuthenticated: The issuer has no such key any more, or cannot be asked.
        """
        leeway = self.verifier.leeway_seconds
        in_time = self.begins <= now + leeway and self.ends > now - leeway
        return in_time and self.verifier.keys(self.kid) is self.key


def from_own_token(claims: Mapping[str, Any]) -> Principal:
    """Whom a token of the Governor's own issuer stands for.

    ``scope`` holds scopes with blanks between (RFC 8693 §4.2), ``repositories`` a list of names; without it the scopes
    hold for every repository.

    Raises:
        NotAuthenticated: ``scope`` or ``repositories`` are not of that form.
    """
    scope, repositories = claims.get("scope", ""), claims.get("repositories")
    if not isinstance(scope, str):
        raise NotAuthenticated("token-malformed", "scope is no text")
    if repositories is not None and not (
        isinstance(repositories, list) and all(isinstance(one, str) for one in repositories)
    ):
        raise NotAuthenticated("token-malformed", "repositories is no list of names")
    held = None if repositories is None else frozenset(repositories)
    grant = Grant(frozenset(scope.split()) & SCOPES.keys(), held)
    return Principal(_subject(claims), "token", (grant,))


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= 256 or not subject.isprintable():
        raise NotAuthenticated("token-malformed", "sub is no short, printable text")
    return subject


def issue(
    *,
    key: str | bytes,
    algorithm: Algorithm,
    issuer: str,
    audience: str,
    subject: str,
    scopes: frozenset[str],
    seconds: int,
    repositories: frozenset[str] | None = None,
    now: int | None = None,
) -> str:
    """Make a token.

    Args:
        key: The secret, or the private key in PEM.
        algorithm: See `Algorithm`.
        issuer: Goes into ``iss``.
        audience: Goes into ``aud``.
        subject: Whom it stands for.
        scopes: Of `SCOPES`.
        seconds: How long it is valid.
        repositories: For which repositories; ``None`` for all.
        now: Unix time of issue; by default the present.

    Raises:
        WrongUse: A scope is not known, the time is too long, or the key does not serve the algorithm.
    """
    if unknown := scopes - SCOPES.keys():
        raise WrongUse(
            f"there is no scope {', '.join(sorted(unknown))}", hint=f"scopes are {', '.join(SCOPES)}"
        )
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise WrongUse(f"a token is valid for 1 to {LONGEST_SECONDS:,} seconds, not {seconds:,}")
    start = int(time.time()) if now is None else now
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": start,
        "exp": start + seconds,
        "scope": " ".join(sorted(scopes)),
    }
    if repositories is not None:
        claims["repositories"] = sorted(repositories)
    try:
        return jwt.encode(claims, key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise WrongUse(f"no {algorithm} token can be made with this key: {error}") from None
