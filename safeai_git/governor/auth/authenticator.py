"""Authentication of one request, by whatever it carries. Without any configured, only this machine itself is served."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import cast

import jwt

from safeai_git.core.errors import WrongUse
from safeai_git.governor.auth import certificates, jwks, rules, tokens
from safeai_git.governor.auth.principal import EVERYTHING, NotAuthenticated, Principal
from safeai_git.governor.settings import Network, Settings
from safeai_git.keys.webtoken import parse_pem

MOST_KNOWN = 4_096
"""Good tokens that are remembered; past it all of them are forgotten."""


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request speaks about its sender.

    Attributes:
        headers: By lower-case name; of a header that is there twice both values, with a comma.
        peer: Address of the other end.
        certificate: Of the client, DER, where our own TLS has verified one.
    """

    headers: Mapping[str, str]
    peer: str
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds out who asks.

    Attributes:
        own: Reads tokens of our own issuer; ``None`` where there are none.
        issuers: CI systems by ``iss``, each with what reads its tokens.
        certificate_rules: Empty where certificates are no proof.
        trusted_proxies: See `certificates.forwarded`.
        fetches_keys: The keys of our own tokens are fetched, too.

    A client sends the same token with each request, so whom one stands for is remembered by its digest, as long as it is good.
    """

    own: tokens.TokenVerifier | None = None
    issuers: Mapping[str, tuple[rules.Issuer, tokens.TokenVerifier]] | None = None
    certificate_rules: tuple[rules.Rule, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    fetches_keys: bool = False
    _known: dict[bytes, tuple[tokens.Valid, Principal]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def configured(self) -> bool:
        """Whether anything is; if not, only loopback is served."""
        return bool(self.own or self.issuers or self.certificate_rules)

    @property
    def waits(self) -> bool:
        """Whether `authenticate` may have to fetch an issuer's keys."""
        return bool(self.issuers) or self.fetches_keys

    def authenticate(self, request: Request) -> Principal:
        """Say who asks. May fetch an issuer's keys: call it where waiting is allowed.

        Raises:
            NotAuthenticated: Nobody that we know.
        """
        forwarded = certificates.forwarded(request.headers, request.peer, self.trusted_proxies)
        authorization = request.headers.get("authorization", "")
        if authorization:
            return self._by_token(authorization)
        der = forwarded or request.certificate
        if der is not None and self.certificate_rules:
            return certificates.principal(der, self.certificate_rules)
        if not self.configured:
            if _is_loopback(request.peer):
                return Principal("loopback", "loopback", (EVERYTHING,))
            raise NotAuthenticated(
                "not-loopback", f"{request.peer} asks, and no authentication is configured"
            )
        raise NotAuthenticated("missing", "the request carries no token and no certificate")

    def _by_token(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > tokens.LONGEST_TOKEN:
            raise NotAuthenticated("token-malformed", "no bearer token of at most 8,192 characters")
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and known[0].holds(time.time()):
            return known[1]
        principal, valid = self._read(token)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[digest] = valid, principal
        return principal

    def _read(self, token: str) -> tuple[Principal, tokens.Valid]:
        issuer = _claimed_issuer(token)
        if self.issuers and issuer in self.issuers:
            who, verifier = self.issuers[issuer]
            claims, valid = verifier.read(token)
            return who.principal(claims), valid
        if self.own is None:
            raise NotAuthenticated("token-wrong-issuer", "tokens of this issuer are not taken")
        claims, valid = self.own.read(token)
        return tokens.from_own_token(claims), valid


def _claimed_issuer(token: str) -> str:
    """Says only which verifier is to be asked; it compares the issuer again."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise NotAuthenticated("token-malformed", str(error)) from None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else ""


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def build(settings: Settings) -> Authenticator:
    """The authenticator that the settings describe.

    Raises:
        WrongUse: The settings contradict each other, or the secret is too short.
        KeyUnusable: The public key will not do.
        PolicyError: A rules file makes no sense.
    """
    algorithm = cast("tokens.Algorithm", settings.jwt_algorithm)
    keys: tokens.Keys | None = None
    if algorithm == "HS256":
        if settings.jwt_secret:
            keys = tokens.one_key(tokens.secret(settings.jwt_secret))
        elif settings.jwt_public_key or settings.jwt_jwks_url:
            raise WrongUse(
                "a public key for tokens is set, and SAFEAI_JWT_ALGORITHM is HS256",
                hint="set SAFEAI_JWT_ALGORITHM to RS256 or EdDSA",
            )
    elif settings.jwt_jwks_url:
        keys = jwks.RemoteKeys(settings.jwt_jwks_url, algorithm)
    elif settings.jwt_public_key:
        keys = tokens.one_key(parse_pem(settings.jwt_public_key, algorithm))
    else:
        raise WrongUse(
            f"SAFEAI_JWT_ALGORITHM is {algorithm}, and there is no public key",
            hint="set SAFEAI_JWT_PUBLIC_KEY or SAFEAI_JWT_JWKS_URL",
        )
    own = keys and tokens.TokenVerifier(
        settings.jwt_issuer, settings.jwt_audience, algorithm, keys, settings.jwt_leeway_seconds
    )
    return Authenticator(
        own or None,
        _issuers(settings),
        _certificate_rules(settings),
        settings.trusted_proxies,
        fetches_keys=bool(settings.jwt_jwks_url),
    )


def _issuers(settings: Settings) -> dict[str, tuple[rules.Issuer, tokens.TokenVerifier]]:
    if settings.oidc_rules is None:
        return {}
    found = {}
    for issuer in rules.load_issuers(rules.read_rules(settings.oidc_rules), str(settings.oidc_rules)):
        if issuer.issuer in found or issuer.issuer == settings.jwt_issuer:
            raise WrongUse(f"the issuer {issuer.issuer} is given twice")
        verifier = tokens.TokenVerifier(
            issuer.issuer,
            issuer.audience,
            "RS256",
            jwks.RemoteKeys(issuer.jwks_url, "RS256"),
            settings.jwt_leeway_seconds,
            longest_seconds=86_400,
        )
        found[issuer.issuer] = (issuer, verifier)
    return found


def _certificate_rules(settings: Settings) -> tuple[rules.Rule, ...]:
    if settings.certificate_rules is None:
        return ()
    path = settings.certificate_rules
    return rules.load_certificates(rules.read_rules(path), str(path))
