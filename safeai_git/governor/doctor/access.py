"""Who may ask: tokens, CI systems, client certificates, and the ingress that is believed about them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from safeai_git.client.web import tls
from safeai_git.core.display import count
from safeai_git.core.errors import SafeAIError, WrongUse
from safeai_git.files import read_bounded
from safeai_git.governor.auth import jwks, rules
from safeai_git.governor.auth.authenticator import build
from safeai_git.governor.auth.tokens import Algorithm
from safeai_git.governor.doctor.case import Case, ago
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.settings import Network
from safeai_git.keys.certificate import periods

_CERTIFICATE_SOON = 21 * 86_400
_MOST_BYTES = 1 << 20
_LOOPBACK = ("", "127.0.0.1", "::1", "localhost")


def tokens(case: Case) -> Iterator[Examined]:
    """Tokens of our own, and those of CI systems."""
    settings = case.settings
    authenticator = build(settings)
    if not authenticator.configured:
        yield Examined(
            "access",
            "warn" if settings.host in _LOOPBACK else "bad",
            "no authentication is configured: only this machine is served, and whoever is on it may do everything"
            if settings.host in _LOOPBACK
            else f"SAFEAI_HOST is {settings.host}, and no authentication is configured: it does not start",
            "set SAFEAI_JWT_SECRET and issue tokens with 'safeai token issue', or see docs/governor.md",
        )
    if authenticator.own is not None:
        yield Examined(
            "tokens",
            "ok",
            f"{settings.jwt_algorithm}, issuer {settings.jwt_issuer}, audience {settings.jwt_audience}",
        )
    if settings.jwt_jwks_url:
        yield _jwks(
            "tokens", settings.jwt_jwks_url, cast("Algorithm", settings.jwt_algorithm), "SAFEAI_JWT_JWKS_URL"
        )
    for issuer, _ in (authenticator.issuers or {}).values():
        name = f"CI {issuer.issuer}"
        yield Examined(name, "ok", f"audience {issuer.audience}, {count(len(issuer.rules), 'rule')}")
        yield _jwks(name, issuer.jwks_url, "RS256", f"jwks_url in {settings.oidc_rules}")


def _jwks(name: str, url: str, algorithm: Algorithm, where: str) -> Examined:
    hint = f"check {where}, the name server and the network policy"
    try:
        found = jwks.usable(json.loads(jwks.fetch(url)), algorithm)
    except (OSError, ValueError, RecursionError) as error:
        return Examined(name, "bad", f"no keys come from {url}: {error!s}", hint)
    if not found:
        return Examined(name, "bad", f"{url} answers, and has no key for {algorithm} with a kid", hint)
    return Examined(name, "ok", f"{count(len(found), 'key')} for {algorithm} come from {url}")


def certificates(case: Case) -> Iterator[Examined]:
    """Client certificates, and whose word about them is taken."""
    settings = case.settings
    proxies = settings.trusted_proxies
    name = "client certificates"
    for network in proxies:
        yield from _proxy(network)
    if settings.certificate_rules is None:
        if proxies or settings.tls_client_ca:
            given = "SAFEAI_TRUSTED_PROXIES" if proxies else "SAFEAI_TLS_CLIENT_CA"
            yield Examined(
                name,
                "warn",
                f"{given} is set, and no rule says what a certificate may",
                "set SAFEAI_CERTIFICATE_RULES",
            )
        return
    path = settings.certificate_rules
    found = rules.load_certificates(rules.read_rules(path), str(path))
    if not proxies and settings.tls_client_ca is None:
        yield Examined(
            name,
            "warn",
            f"{path} has rules, and nobody hands in a certificate: they never apply",
            "set SAFEAI_TLS_CLIENT_CA, or SAFEAI_TRUSTED_PROXIES behind an ingress",
        )
        return
    yield Examined(name, "ok", f"{path}, {count(len(found), 'rule')}")


def _proxy(network: Network) -> Iterator[Examined]:
    """A network whose header counts can pretend to be any client."""
    name, hint = "trusted proxies", "name the addresses of the ingress alone in SAFEAI_TRUSTED_PROXIES"
    shown = f"whoever reaches the port from {network} may claim any client certificate"
    if network.prefixlen == 0:
        yield Examined(name, "bad", f"{shown}: that is everybody", hint)
    elif network.is_loopback:
        yield Examined(name, "ok", f"{network}: this machine")
    elif not network.is_private and network.num_addresses > 256:
        yield Examined(name, "bad", f"{shown}: {network.num_addresses:,} addresses of the internet", hint)
    elif network.num_addresses > (1 << 16 if isinstance(network, ipaddress.IPv4Network) else 1 << 64):
        yield Examined(
            name,
            "warn",
            f"{shown}: {network.num_addresses:,} addresses",
            f"{hint}; until then a network policy has to keep others from the port",
        )
    else:
        yield Examined(name, "ok", f"{network}: {count(network.num_addresses, 'address', 'addresses')}")


def own_tls(case: Case) -> Iterator[Examined]:
    """The server's own certificate, and the authority of those of clients."""
    settings = case.settings
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        if settings.host not in _LOOPBACK or settings.trusted_proxies:
            yield Examined("TLS", "ok", "none of its own: an ingress or a proxy has to be in front")
        return
    try:
        tls(certificate=(str(cert), str(key)))
    except WrongUse as error:
        yield of_error("TLS", error)
        return
    yield from _periods(case, cert, "SAFEAI_TLS_CERT")
    if settings.tls_client_ca is not None:
        try:
            tls(str(settings.tls_client_ca))
        except WrongUse as error:
            yield of_error("TLS", error)
            return
        yield from _periods(case, settings.tls_client_ca, "SAFEAI_TLS_CLIENT_CA")


def _periods(case: Case, path: Path, variable: str) -> Iterator[Examined]:
    try:
        found = periods(read_bounded(path, _MOST_BYTES))
    except (OSError, SafeAIError) as error:
        yield Examined("TLS", "bad", f"{path} ({variable}): {error}")
        return
    for subject, begin, end in found:
        shown = f"{subject} in {path} ({variable})"
        if end <= case.now:
            yield Examined(
                "TLS", "bad", f"{shown} expired {ago(case.now - end)} ago", "renew it, and restart"
            )
        elif begin > case.now:
            yield Examined(
                "TLS", "bad", f"{shown} becomes valid in {ago(begin - case.now)}", "check the clock"
            )
        elif end - case.now < _CERTIFICATE_SOON:
            yield Examined(
                "TLS", "warn", f"{shown} expires in {ago(end - case.now)}", "renew it, and restart"
            )
        else:
            yield Examined("TLS", "ok", f"{shown}, for {ago(end - case.now)} more")
