"""What a certificate (RFC 5280) says about its holder. Its chain was verified elsewhere; nothing here does."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from safeai_git.core.errors import FormatError


def holder(der: bytes) -> tuple[str, tuple[str, ...]]:
    """The subject (RFC 4514) and the alternative names: URIs, then DNS names, then mail addresses.

    Raises:
        FormatError: It is no certificate.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string()
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return subject, ()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise FormatError(f"not a certificate: {' '.join(str(error).split())}") from None
    kinds = (x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name)
    return subject, tuple(name for kind in kinds for name in found.get_values_for_type(kind))


def from_pem(text: str) -> bytes:
    """The DER of one certificate in PEM.

    Raises:
        FormatError: It is no certificate in PEM.
    """
    try:
        return x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(f"not a certificate in PEM: {' '.join(str(error).split())}") from None


def periods(text: bytes) -> list[tuple[str, float, float]]:
    """The certificates of a PEM file, in order: subject (RFC 4514), and from when to when it is valid, in Unix seconds.

    Raises:
        FormatError: There is none in it, or one of them is none.
    """
    try:
        found = x509.load_pem_x509_certificates(text)
        return [
            (
                one.subject.rfc4514_string(),
                one.not_valid_before_utc.timestamp(),
                one.not_valid_after_utc.timestamp(),
            )
            for one in found
        ]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(f"not certificates in PEM: {' '.join(str(error).split())}") from None
