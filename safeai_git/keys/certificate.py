"""What a certificate (RFC 5280) says about its holder. Its chain was verified elsewhere; nothing here does."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

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
