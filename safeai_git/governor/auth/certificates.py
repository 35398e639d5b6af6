"""Client certificates: from our own TLS, or passed on by an ingress at an address that is trusted.

Whoever verified the chain did so before: our TLS with its authority, or the ingress, which must say so
(``ssl-client-verify: SUCCESS``, as ingress-nginx writes it). The header of anybody else is refused, not ignored:
whoever sends one is misconfigured or up to something.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from safeai_git.core.errors import FormatError
from safeai_git.governor.auth.principal import NotAuthenticated, Principal
from safeai_git.governor.auth.rules import Rule
from safeai_git.governor.settings import Network
from safeai_git.keys.certificate import from_pem, holder

HEADER = "ssl-client-cert"
VERIFIED = "ssl-client-verify"
_LARGEST = 32_768


def forwarded(headers: Mapping[str, str], peer: str, trusted: Sequence[Network]) -> bytes | None:
    """The certificate (DER) that a trusted ingress passes on; ``None`` where there is no such header.

    Args:
        headers: By lower-case name.
        peer: Address of the other end of the connection.
        trusted: Networks of the ingress.

    Raises:
        NotAuthenticated: It comes from anybody else, was not verified, or cannot be read.
    """
    if HEADER not in headers and VERIFIED not in headers:
        return None
    if not _within(peer, trusted):
        raise NotAuthenticated("certificate-untrusted-peer", f"{peer} is no trusted ingress")
    if headers.get(VERIFIED) != "SUCCESS":
        raise NotAuthenticated("certificate-not-verified", headers.get(VERIFIED, "")[:80])
    text = unquote(headers.get(HEADER, ""))
    if len(text) > _LARGEST:
        raise NotAuthenticated("certificate-malformed", f"{len(text):,} characters")
    try:
        return from_pem(text)
    except FormatError as error:
        raise NotAuthenticated("certificate-malformed", error.message) from None


def _within(peer: str, networks: Iterable[Network]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def principal(der: bytes, rules: Iterable[Rule]) -> Principal:
    """Whom a verified certificate stands for.

    Raises:
        NotAuthenticated: It cannot be read, or no rule fits it.
    """
    try:
        subject, names = holder(der)
    except FormatError as error:
        raise NotAuthenticated("certificate-malformed", error.message) from None
    digest = hashlib.sha256(der).hexdigest()
    variants = [{"subject": subject, "sha256": digest, "san": name} for name in names or ("",)]
    grants = tuple(rule.grant for rule in rules if any(rule.fits(facts) for facts in variants))
    if not grants:
        raise NotAuthenticated("no-rule", f"no rule fits the certificate {subject!r}, sha256 {digest}")
    return Principal((names[0] if names else subject)[:256], "certificate", grants, {"certificate": digest})
