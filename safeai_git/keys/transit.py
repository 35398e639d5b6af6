"""Keys in the transit engine of OpenBao or HashiCorp Vault: ``vault://[MOUNT/]NAME[?version=N]``.

The key's version is pinned when it is opened and its public half is read then; every signature is checked against it
here, so nothing depends on what the server says of a signature. Where the server is comes from the environment alone
(``VAULT_ADDR``, ``VAULT_TOKEN`` and the others that its own command line reads), never from the reference.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from safeai_git.client.web import exchange, may_have_a_token, tls
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, KeyUnusable, WrongUse
from safeai_git.core.publickey import PublicKey
from safeai_git.files import read_bounded
from safeai_git.keys.remote import checked

SCHEME = "vault"
SECONDS = 5.0
"""What one question to the server may take."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SIGNATURE = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]{86}==)")
_TOKEN = re.compile(r"[!-~]{1,16384}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Place:
    """A key in a transit engine, as a reference names it.

    Attributes:
        mount: Where the engine is mounted, such as ``transit``.
        name: The key's.
        version: The pinned one; 0 for whichever is the newest when the key is opened.

    Raises:
        WrongUse: The reference is none.
    """

    def __init__(self, reference: str) -> None:
        parts = urlsplit(reference)
        segments = f"{parts.netloc}{parts.path}".split("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        version = query.pop("version", "")
        good = parts.scheme == SCHEME and 1 <= len(segments) <= 8 and not query and not parts.fragment
        good = good and all(_NAME.fullmatch(one) for one in segments)
        if not good or (parts.query and not _VERSION.fullmatch(version)):
            raise WrongUse(
                f"'{safe_text(reference[:200])}' names no key in a transit engine",
                hint="write vault://NAME, vault://MOUNT/NAME or vault://MOUNT/NAME?version=N",
            )
        self.name = segments[-1]
        self.mount = "/".join(segments[:-1]) or "transit"
        self.version = int(version or 0)

    def __str__(self) -> str:
        return f"{SCHEME}://{self.mount}/{self.name}"


class TransitSigner:
    """A `Signer` whose private key never leaves the server. Its representation shows no token.

    Args:
        reference: Which key.
        environ: ``VAULT_ADDR`` or ``BAO_ADDR``; ``VAULT_TOKEN`` or ``BAO_TOKEN``, else the file ``~/.vault-token``, else
            none (an agent on this machine may add its own); ``VAULT_NAMESPACE``, ``VAULT_CACERT``,
            ``VAULT_CLIENT_CERT`` and ``VAULT_CLIENT_KEY``, or the same names with ``BAO_``.
        seconds: What one question may take.

    Raises:
        WrongUse: The reference or the address is none.
        KeyUnusable: The server does not answer, denies it, or has no such Ed25519 key; the message says which.
    """

    def __init__(self, reference: str, environ: Mapping[str, str], *, seconds: float = SECONDS) -> None:
        self._place = Place(reference)
        self._environ = environ
        self._seconds = seconds
        self._address = self._setting("ADDR").rstrip("/")
        if not may_have_a_token(self._address):
            raise WrongUse(
                f"{self._place} is a key in Vault or OpenBao, and VAULT_ADDR is '{safe_text(self._address[:200])}'",
                hint="set VAULT_ADDR to https://HOST:8200; http:// only for this machine itself",
            )
        certificate = self._setting("CLIENT_CERT"), self._setting("CLIENT_KEY")
        local = self._address.startswith("http:")
        self._context = (
            None if local else tls(self._setting("CACERT"), certificate if all(certificate) else None)
        )
        self._version, self._public = self._opened()

    @property
    def key_id(self) -> str:
        """The fingerprint of the public half."""
        return self._public.key_id

    @property
    def public(self) -> PublicKey:
        """The public half of the pinned version."""
        return self._public

    @property
    def version(self) -> int:
        """The pinned version."""
        return self._version

    def __repr__(self) -> str:
        return f"TransitSigner({str(self._place)!r}, version={self._version}, public={self._public!r})"

    def sign(self, message: bytes) -> bytes:
        """Sign a message with pure Ed25519.

        Raises:
            KeyUnusable: The server does not answer in time, denies it, or answered with something else than this
                version's signature.
        """
        data = self._ask("POST", "sign", {"input": b64encode(message).decode(), "key_version": self._version})
        text = data.get("signature")
        found = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise KeyUnusable(f"{self._shown} gave something that is no signature of a transit engine")
        if int(found[1]) != self._version:
            raise KeyUnusable(
                f"{self._shown} signed with version {int(found[1])}, and version {self._version} was asked for",
                hint="nothing was signed; a server that does so is not to be trusted",
            )
        return checked(b64decode(found[2]), self._public, message, self._shown)

    def _opened(self) -> tuple[int, PublicKey]:
        data = self._ask("GET", "keys", None)
        if data.get("type") != "ed25519":
            raise KeyUnusable(
                f"{self._shown} is a key of the kind {safe_text(str(data.get('type'))[:40])}; only ed25519 is used here",
                hint=f"bao write -f {self._place.mount}/keys/{self._place.name} type=ed25519",
            )
        if data.get("derived") is not False:
            raise KeyUnusable(f"{self._shown} is derived anew for each context; that has no public key")
        version = self._place.version or data.get("latest_version")
        oldest = data.get("min_encryption_version")
        keys = data.get("keys")
        if not isinstance(version, int) or version < 1 or not isinstance(keys, dict):
            raise KeyUnusable(f"{self._shown} is described in a way that cannot be read")
        if isinstance(oldest, int) and version < oldest:
            raise KeyUnusable(
                f"{self._shown} was rotated: version {version} signs no more, {oldest} is the oldest that does",
                hint="name a newer version, and have its public key trusted first",
            )
        try:
            raw = b64decode(keys[str(version)]["public_key"], validate=True)
            return version, PublicKey(raw)
        except (KeyError, TypeError, Base64Error, ValueError, FormatError):
            raise KeyUnusable(f"{self._shown} has no version {version} with an Ed25519 public key") from None

    def _ask(self, method: str, what: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        url = f"{self._address}/v1/{quote(self._place.mount)}/{what}/{quote(self._place.name)}"
        headers = {"X-Vault-Request": "true", "User-Agent": "safeai-git", "Content-Type": "application/json"}
        headers |= {"X-Vault-Token": token} if (token := self._token()) else {}
        headers |= {"X-Vault-Namespace": name} if (name := self._setting("NAMESPACE")) else {}
        sent = None if body is None else json.dumps(body).encode()
        try:
            answer = exchange(method, url, sent, headers, seconds=self._seconds, context=self._context)
        except OSError as error:
            raise KeyUnusable(
                f"{self._shown} cannot be asked: {self._address}: {error}",
                hint="nothing was signed; look at the server, and at VAULT_ADDR",
            ) from None
        except FormatError as error:
            raise KeyUnusable(f"{self._shown} cannot be asked: {self._address}: {error.message}") from None
        if answer.status != 200:
            raise self._refusal(answer.status, _errors(answer.body), method, what)
        try:
            data = json.loads(answer.body)["data"]
        except (ValueError, RecursionError, KeyError, TypeError):
            data = None
        if not isinstance(data, dict):
            raise KeyUnusable(
                f"{self._shown}: what {self._address} answered is no answer of Vault or OpenBao"
            )
        return data

    def _refusal(self, status: int, said: str, method: str, what: str) -> KeyUnusable:
        why = f": {said}" if said else ""
        path = f"{self._place.mount}/{what}/{self._place.name}"
        if status == 403:
            right = "update" if method == "POST" else "read"
            return KeyUnusable(
                f"{self._shown} is denied{why}",
                hint=f"the token may be over, or its policy lacks '{right}' on {path}",
            )
        if status == 404:
            return KeyUnusable(
                f"there is no {self._shown}{why}",
                hint=f"bao write -f {self._place.mount}/keys/{self._place.name} type=ed25519",
            )
        if status in (429, 473, 503) or status >= 500:
            return KeyUnusable(
                f"{self._shown} cannot be used now: the server answered {status}{why}",
                hint="nothing was signed; it may be sealed, starting, or asked too often",
            )
        return KeyUnusable(f"{self._shown} cannot be used: the server answered {status}{why}")

    def _token(self) -> str:
        """Read anew for each question: an agent writes another one before the old one is over."""
        token = self._setting("TOKEN")
        home = self._environ.get("HOME")
        if not token and home:
            try:
                token = read_bounded(Path(home) / ".vault-token", 16_385).decode("ascii").strip()
            except FileNotFoundError:
                return ""
            except (OSError, UnicodeDecodeError) as error:
                raise KeyUnusable(f"the token's file {home}/.vault-token cannot be read: {error}") from None
        if token and not _TOKEN.fullmatch(token):
            raise KeyUnusable("VAULT_TOKEN holds a character that no token has", hint="copy it again, whole")
        return token

    def _setting(self, name: str) -> str:
        return (self._environ.get(f"VAULT_{name}") or self._environ.get(f"BAO_{name}") or "").strip()

    @property
    def _shown(self) -> str:
        return f"the key {self._place}"


def _errors(body: bytes) -> str:
    """The server's reasons, fit for a terminal."""
    try:
        said = json.loads(body)["errors"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return safe_text("; ".join(str(one) for one in said)[:300]) if isinstance(said, list) else ""
