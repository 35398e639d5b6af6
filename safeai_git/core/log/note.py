"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines; and the keys that verify them.

A `Note` is untrusted bytes, well formed and no more; `check` says which keys signed it. A signature by a key that is
known must hold, or the whole note is rejected; signatures by unknown keys count for nothing and do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64, cosignature
from safeai_git.core.trust import Verify

ED25519 = 0x01
COSIGNATURE = 0x04
"""The timestamped Ed25519 signature of a witness (C2SP tlog-cosignature)."""

MAX_BYTES = 1_000_000
MAX_SIGNATURES = 100
"""As Go's ``sumdb/note``; C2SP asks for 16 at the least."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LONE = re.compile("[\ud800-\udfff]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_DASH = "\u2014 "


def is_key_name(name: str) -> bool:
    """Whether a text can name a key: not empty, no blanks of any script, no plus sign, no control characters."""
    if not name or "+" in name or _CONTROL.search(name) or _LONE.search(name):
        return False
    return not any(one.isspace() for one in name)


def key_id(name: str, algorithm: int, public: bytes) -> bytes:
    """The four bytes that identify a key in a signature line; no security rests on them."""
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:4]


class NoteKey(Struct, frozen=True):
    """A key that verifies notes.

    Attributes:
        name: Whose it is; on a checkpoint, the log's origin.
        algorithm: `ED25519` or `COSIGNATURE`.
        public: The 32 bytes of the public key.
        until: Entries of the largest checkpoint that it is believed about; ``None`` for a key that is in use.

    Raises:
        FormatError: The name cannot be one, the algorithm is not ours, or the key has another length.
    """

    name: str
    algorithm: int
    public: bytes
    until: int | None = None

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise FormatError(f"a note's key cannot be called {self.name[:80]!a}")
        if self.algorithm not in (ED25519, COSIGNATURE):
            raise FormatError(
                f"the key {self.name} is of type 0x{self.algorithm:02x}, which is not used here"
            )
        if len(self.public) != 32:
            raise FormatError(f"the key {self.name} has {len(self.public)} bytes, not 32")

    @property
    def id(self) -> bytes:
        """The four bytes of `key_id`."""
        return key_id(self.name, self.algorithm, self.public)

    def format(self) -> str:
        """Write the key as a *vkey*: ``name+id+base64``."""
        return f"{self.name}+{self.id.hex()}+{base64.encode(bytes([self.algorithm]) + self.public)}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read a vkey, the inverse of `format`.

        Raises:
            FormatError: Not a vkey, one of another kind, or one whose id is not its own.
        """
        name, plus, rest = text.partition("+")
        stated, second, encoded = rest.partition("+")
        if not plus or not second or not _KEY_ID.fullmatch(stated):
            raise FormatError(f"not a verifier key (name+id+base64): {text[:120]!a}")
        data = base64.decode(encoded, f"the verifier key {name[:80]!a}")
        if not data:
            raise FormatError(f"the verifier key {name[:80]!a} is empty")
        key = cls(name, data[0], data[1:])
        if key.id.hex() != stated:
            raise FormatError(f"the verifier key {name} says id {stated}, and its bytes give {key.id.hex()}")
        return key

    @classmethod
    def bounded(cls, text: str) -> NoteKey:
        """Read a vkey, or one with ``@`` and a size behind it, up to which it is believed (`until`).

        Raises:
            FormatError: It is neither.
        """
        key, _, size = text.rpartition("@")  # no part of base64, and a name ends at a plus sign
        if not key or "+" in size:
            return cls.parse(text)
        if not _SIZE.fullmatch(size) or int(size) >= 2**63:
            raise FormatError(f"behind the @ of a verifier key stands a number of entries, not {size[:40]!a}")
        found = cls.parse(key)
        return cls(found.name, found.algorithm, found.public, int(size))

    def believed_about(self, size: int) -> bool:
        """Whether the key counts under a checkpoint over so many entries."""
        return self.until is None or size <= self.until

    def holds(self, text: str, body: bytes, verify: Verify) -> bool:
        """Whether a signature's bytes, those after the key id, are this key's over a note's text."""
        if self.algorithm == ED25519:
            return verify(self.public, body, text.encode())
        try:
            signed = cosignature.Cosignature.parse(body)
        except FormatError:
            return False
        return verify(self.public, signed.signature, cosignature.message(text, signed.time))


class NoteSignature(Struct, frozen=True):
    """A signature line: the name, the four bytes of the key's id, and whatever the algorithm puts behind them."""

    name: str
    key_id: bytes
    body: bytes

    def format(self) -> str:
        """The line with its newline."""
        return f"{_DASH}{self.name} {base64.encode(self.key_id + self.body)}\n"

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Read a line without its newline.

        Raises:
            FormatError: Not a signature line.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not is_key_name(name):
            raise FormatError(f"not a note's signature line: {line[:80]!a}")
        data = base64.decode(encoded, f"the signature of {name}")
        if len(data) < 5:
            raise FormatError(f"the signature of {name} is too short")
        return cls(name, data[:4], data[4:])


class Note(Struct, frozen=True):
    """A text with signatures that nobody has checked yet.

    Attributes:
        text: Ends in a newline; no other control characters.
        signatures: One to a hundred, as they stand.

    Raises:
        FormatError: One of these does not hold.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _CONTROL.search(self.text):
            raise FormatError("a note's text ends in a newline and has no other control characters")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise FormatError(f"a note has 1 to {MAX_SIGNATURES} signatures, not {len(self.signatures)}")

    def format(self) -> bytes:
        """Write the note."""
        return (self.text + "\n" + "".join(one.format() for one in self.signatures)).encode()

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note, the inverse of `format`. Text and signatures part at the last empty line.

        Raises:
            FormatError: Not a note.
        """
        if len(data) > MAX_BYTES:
            raise FormatError(f"a note of {len(data):,} bytes is not read; {MAX_BYTES:,} are the most")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"the note is not UTF-8 at byte {error.start}") from None
        text, gap, lines = whole.rpartition("\n\n")
        if not gap or not lines.endswith("\n"):
            raise FormatError("not a signed note: no signatures after an empty line")
        if lines.count("\n") > MAX_SIGNATURES:
            raise FormatError(f"the note has more than {MAX_SIGNATURES} signatures")
        return cls(text + "\n", tuple(NoteSignature.parse(line) for line in lines[:-1].split("\n")))

    def check(self, keys: Iterable[NoteKey], verify: Verify) -> tuple[NoteKey, ...]:
        """Which of the keys signed this note; each once, in the order of the lines.

        Args:
            keys: Those that the caller knows.
            verify: The check of one Ed25519 signature, `safeai_git.keys.ed25519.verify`.

        Raises:
            LogProofInvalid: A known key's signature does not hold.
        """
        known: dict[tuple[str, bytes], list[NoteKey]] = {}
        for key in keys:
            known.setdefault((key.name, key.id), []).append(key)
        signers: list[NoteKey] = []
        for one in self.signatures:
            candidates = known.get((one.name, one.key_id), [])
            if not candidates:
                continue
            # Two keys can share a four-byte id; the line is good if it is one of theirs.
            holding = [key for key in candidates if key.holds(self.text, one.body, verify)]
            if not holding:
                raise LogProofInvalid(
                    f"the signature in the name of {one.name} (key {one.key_id.hex()}) does not hold"
                )
            signers += holding
        return tuple(dict.fromkeys(signers))
