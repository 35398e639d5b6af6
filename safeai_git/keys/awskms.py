"""Keys in AWS KMS: ``awskms:///KEY``, where KEY is a key's id or ARN or ``alias/NAME``. Needs the extra ``[aws]``.

The key spec is ``ECC_NIST_EDWARDS25519``, the algorithm ``ED25519_SHA_512`` with ``MessageType=RAW``, which is pure Ed25519
(``ED25519_PH_SHA_512`` hashes before and is another algorithm). KMS signs at most 4,096 bytes. What an alias names is
looked up once and pinned; every signature is checked here against the public key that was read then. Region, credentials
and endpoint are those of the AWS SDK.
"""

from __future__ import annotations

import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from safeai_git.client.web import in_time
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, KeyUnusable, WrongUse
from safeai_git.core.publickey import PublicKey
from safeai_git.keys.remote import checked

SCHEME = "awskms"
SECONDS = 5.0
"""What one question to KMS may take, with the SDK's own repetitions."""

MOST_BYTES = 4_096
"""Of a message: the model's ``PlaintextType``."""

_ALGORITHM = "ED25519_SHA_512"
_REFERENCE = re.compile(rf"{SCHEME}:///([A-Za-z0-9/_:-]{{1,2048}})")
_SPKI = bytes.fromhex("302a300506032b6570032100")
"""What comes before the 32 bytes in an Ed25519 SubjectPublicKeyInfo (RFC 8410 §4)."""

_LATER = frozenset(
    {
        "ThrottlingException",
        "LimitExceededException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "KMSInternalException",
        "ServiceUnavailable",
    }
)
_HINTS = {
    "AccessDeniedException": "it needs kms:GetPublicKey and kms:Sign on the key",
    "NotFoundException": "check the key's id and the region (AWS_DEFAULT_REGION)",
    "DisabledException": "the key is disabled: aws kms enable-key",
    "KMSInvalidStateException": "the key is pending deletion or import",
    "InvalidKeyUsageException": "the key has to be of the spec ECC_NIST_EDWARDS25519 and the usage SIGN_VERIFY",
    "UnsupportedOperationException": "the key has to be of the spec ECC_NIST_EDWARDS25519 and the usage SIGN_VERIFY",
}


def key_of(reference: str) -> str:
    """The key that a reference names, as KMS takes it.

    Raises:
        WrongUse: The reference is none.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise WrongUse(
            f"'{safe_text(reference[:200])}' names no key in AWS KMS",
            hint="write awskms:///KEY-ID, awskms:///alias/NAME or awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID",
        )
    return found[1]


class KmsSigner:
    """A `Signer` whose private key never leaves KMS.

    Args:
        reference: Which key.
        client: The SDK's client of KMS; ``None`` for one by the SDK's own configuration.
        seconds: What one question may take.

    Raises:
        WrongUse: The reference is none.
        KeyUnusable: KMS does not answer, denies it, or has no such Ed25519 key; the message says which.
    """

    def __init__(self, reference: str, *, client: Any = None, seconds: float = SECONDS) -> None:
        self._key = key_of(reference)
        self._shown = f"the key {reference}"
        self._seconds = seconds
        self._client = client if client is not None else self._ask(_client)
        data = self._ask(lambda: self._client.get_public_key(KeyId=self._key))
        self._key, self._public = self._opened(data)

    @property
    def key_id(self) -> str:
        """The fingerprint of the public half."""
        return self._public.key_id

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self._public

    def __repr__(self) -> str:
        return f"KmsSigner({self._key!r}, public={self._public!r})"

    def sign(self, message: bytes) -> bytes:
        """Sign a message of 1 to 4,096 bytes with pure Ed25519.

        Raises:
            FormatError: KMS takes no message of this length.
            KeyUnusable: KMS does not answer in time, denies it, or gave something else than this key's signature.
        """
        if not 1 <= len(message) <= MOST_BYTES:
            raise FormatError(f"AWS KMS signs 1 to {MOST_BYTES:,} bytes, not {len(message):,}")
        data = self._ask(
            lambda: self._client.sign(
                KeyId=self._key, Message=message, MessageType="RAW", SigningAlgorithm=_ALGORITHM
            )
        )
        return checked(bytes(data.get("Signature", b"")), self._public, message, self._shown)

    def _opened(self, data: Any) -> tuple[str, PublicKey]:
        spec = data.get("KeySpec")
        if spec != "ECC_NIST_EDWARDS25519" or _ALGORITHM not in data.get("SigningAlgorithms", ()):
            raise KeyUnusable(
                f"{self._shown} is of the spec {safe_text(str(spec)[:40])}; only ECC_NIST_EDWARDS25519 is used here",
                hint="aws kms create-key --key-spec ECC_NIST_EDWARDS25519 --key-usage SIGN_VERIFY",
            )
        der, pinned = bytes(data.get("PublicKey", b"")), data.get("KeyId")
        if len(der) != 44 or not der.startswith(_SPKI) or not isinstance(pinned, str) or not pinned:
            raise KeyUnusable(f"{self._shown} is described in a way that cannot be read")
        return pinned, PublicKey(der[len(_SPKI) :])

    def _ask(self, question: Any) -> Any:
        try:
            return in_time(question, self._seconds)
        except TimeoutError as error:
            raise KeyUnusable(
                f"{self._shown} cannot be asked: AWS KMS gave {error}", hint="nothing was signed"
            ) from None
        except ClientError as error:
            code = safe_text(str(error.response.get("Error", {}).get("Code", ""))[:80])
            said = safe_text(str(error.response.get("Error", {}).get("Message", ""))[:300])
            hint = "nothing was signed; try again" if code in _LATER else _HINTS.get(code, "")
            raise KeyUnusable(f"{self._shown} cannot be used: {code}: {said}", hint=hint) from None
        except BotoCoreError as error:
            raise KeyUnusable(
                f"{self._shown} cannot be asked: {safe_text(str(error)[:300])}",
                hint="AWS_DEFAULT_REGION (or a profile) and credentials have to be there: 'aws sts get-caller-identity' shows whose",
            ) from None


def _client() -> Any:
    limits = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "max_attempts": 2})
    return boto3.client("kms", config=limits)
