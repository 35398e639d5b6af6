"""``safeai audit``: verify a log, look at it, prove out of it. Works on any copy, with no server.

Exit codes of ``--verify``: 0 consistent, 1 not anchored or witnessed though that was required, 2 tampered or forked, 3 only its end
is torn, 4 it cannot be read.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safeai_git.audit import Anchor, Progress, Report, Source, as_json, entries, verify_file
from safeai_git.audit_proofs import Verified, consistency, export_tiles, prove, read
from safeai_git.core.display import count, safe_text
from safeai_git.core.errors import FormatError, LogProofInvalid, SafeAIError, StorageError, WrongUse
from safeai_git.core.log import base64
from safeai_git.core.log.entry import Entry
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.log.policy import MAX_BYTES as POLICY_BYTES
from safeai_git.core.log.policy import NONE, WitnessPolicy, parse_policy
from safeai_git.core.publickey import PublicKey, parse_openssh
from safeai_git.files import read_bounded, sync_folder, write_atomically
from safeai_git.report.style import for_terminal

CONSISTENT, UNANCHORED, TAMPERED, TORN, UNREADABLE = 0, 1, 2, 3, 4
BAR = 40


def say(text: str) -> None:
    """Text for people on standard output."""
    print(for_terminal(text))


def log_keys(log: Path, named: Sequence[str]) -> list[NoteKey | PublicKey]:
    """The keys to trust: those that were named (a verifier key, or a .pub file), else those beside the log.

    Raises:
        WrongUse: One is neither.
    """
    if not named:
        found = sorted((log.parent / "keys").glob("ed25519.*.pub"))
        return [_public(path) for path in found]
    keys: list[NoteKey | PublicKey] = []
    for one in named:
        try:
            keys.append(NoteKey.bounded(one) if "+" in one and not Path(one).exists() else _public(Path(one)))
        except (FormatError, StorageError) as error:
            raise WrongUse(
                f"--key {safe_text(one)}: {error.message}",
                hint="name a .pub file or a verifier key (name+id+base64)",
            ) from None
    return keys


def _public(path: Path) -> PublicKey:
    try:
        return parse_openssh(read_bounded(path, MAX_BYTES).strip())[0]
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error


def anchors_of(log: Path, named: Sequence[Path]) -> list[Anchor]:
    """The checkpoints to hold the log against: those that were named, and those beside it.

    Raises:
        StorageError: One that was named cannot be read.
    """
    anchors = []
    for path in named:
        try:
            anchors.append(Anchor(str(path), read_bounded(path, MAX_BYTES)))
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    for path in (log.parent / "audit.head", log.parent / "witnessed" / "quorum.checkpoint"):
        if path not in named:
            try:
                anchors.append(Anchor(str(path), read_bounded(path, MAX_BYTES), outside=False))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    return anchors


def witness_policy(path: Path) -> WitnessPolicy:
    """The witnesses that somebody trusts.

    Raises:
        WrongUse: The file cannot be read, or is no witness policy that asks for anybody.
    """
    try:
        policy = parse_policy(read_bounded(path, POLICY_BYTES), str(path))
    except (OSError, FormatError) as error:
        raise WrongUse(f"--witness-policy {safe_text(str(path))}: {error}") from None
    if policy.quorum == NONE:
        raise WrongUse(f"--witness-policy {safe_text(str(path))} asks for no witness: its quorum is 'none'")
    return policy


def progress_bar() -> Progress | None:
    """A bar on standard error, if a person watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        share = done / total if total else 1.0
        filled = int(share * BAR)
        end = "\n" if done >= total else ""
        print(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {share:4.0%}", end=end, file=sys.stderr, flush=True)

    return show


def verify(
    log: Path,
    named_keys: Sequence[str],
    named_anchors: Sequence[Path],
    *,
    require_anchor: bool,
    as_data: bool,
    witnesses: Path | None = None,
    source: Source | None = None,
) -> int:
    """Verify a log and say what was found; with a source its bytes, where `log` names what lies beside it."""
    policy = None if witnesses is None else witness_policy(witnesses)
    try:
        report = verify_file(
            source or log,
            keys=log_keys(log, named_keys),
            anchors=anchors_of(log, named_anchors),
            witnesses=policy,
            progress=progress_bar(),
        )
    except LogProofInvalid as error:  # of a source that contradicts itself before any line does
        print(for_terminal(f"TAMPERED: {error.message}"), file=sys.stderr)
        return TAMPERED
    except SafeAIError as error:
        if isinstance(error, WrongUse):
            raise
        print(for_terminal(f"safeai: {error.message}"), file=sys.stderr)
        return UNREADABLE
    code = {"consistent": CONSISTENT, "torn": TORN, "tampered": TAMPERED}[report.state]
    if code == CONSISTENT and require_anchor and (report.keys_claimed or not report.anchored):
        code = UNANCHORED
    if code == CONSISTENT and report.witnessed == 0:
        code = UNANCHORED
    if as_data:
        print(as_json(report))
    else:
        _tell(str(source or log), report, code)
    return code


def _tell(log: str, report: Report, code: int) -> None:
    name = safe_text(log)
    if code == TAMPERED:
        say(f"TAMPERED: {name} of {safe_text(report.origin)}")
        for fault in report.faults:
            say(f"  {safe_text(str(fault))}")
        say(f"The {count(report.size, 'entry', 'entries')} before that are consistent with each other.")
    elif code == TORN:
        say(f"TORN: the end of {name} is not whole; everything before it is in order.")
        for fault in report.faults:
            say(f"  {safe_text(str(fault))}")
        say(
            "A crash, or a copy of a log that was being written, looks so. The Governor moves such an end aside."
        )
    else:
        say(f"CONSISTENT: {name} of {safe_text(report.origin)}")
    say(
        f"Internally consistent to {count(report.size, 'entry', 'entries')}; "
        f"{count(report.commits, 'signed checkpoint')}, the newest over {report.committed:,}."
    )
    if report.checked or report.unknown:
        say(
            f"{count(report.checked, 'signature')} of envelopes hold; "
            f"{report.unknown:,} more are by keys that the log does not name."
        )
    for source, size, outside in report.anchors:
        where = "" if outside else ", which lies beside the log and so proves little"
        say(f"Anchored to {count(size, 'entry', 'entries')} by {safe_text(source)}{where}.")
    if report.witnessed:
        say(f"Witnessed to {count(report.witnessed, 'entry', 'entries')} by the quorum of the policy.")
    elif report.witnessed == 0:
        say(
            "No checkpoint that the quorum of the witness policy cosigned agrees with it (--anchor names one)."
        )
    if report.keys_claimed:
        say("The key is the log's own word: name the one that you trust with --key.")
    if not report.anchored:
        say(
            "No checkpoint from outside was given (--anchor): that its end was cut off, or that a holder of the key "
            "wrote it anew, cannot be excluded."
        )


def tail(log: Path, number: int, *, raw: bool) -> int:
    """Show the last entries. Nothing is verified."""
    last = deque(entries(log), maxlen=number)
    for line in last:
        if raw:
            say(line.decode("ascii"))
            continue
        entry = Entry.parse(line)
        detail = "" if entry.member == "env" else "  " + json.dumps(entry.data(), sort_keys=True)
        say(f"{entry.seq}  {entry.time}  {entry.kind}  {entry.id}{detail}")
    return 0


def prove_entry(
    log: Path, named_keys: Sequence[str], named_anchors: Sequence[Path], index: int, to: Path | None
) -> int:
    """Write the receipt of an entry."""
    verified = _read(log, named_keys, named_anchors)
    line = next((one for at, one in enumerate(entries(log)) if at == index), b"")
    proof = prove(verified, index, line).format()
    if to is None:
        sys.stdout.write(proof.decode())
    else:
        write_atomically(to, proof, mode=0o644)
        say(f"entry {index} is in the log of size {verified.size}: {safe_text(str(to))}")
    return 0


def prove_consistency(
    log: Path, named_keys: Sequence[str], named_anchors: Sequence[Path], old: int, new: int, *, as_data: bool
) -> int:
    """Print the proof that the log only grew."""
    found = consistency(_read(log, named_keys, named_anchors), old, new)
    path = [base64.encode(one) for one in found.path]
    if as_data:
        roots = {"old_root": base64.encode(found.old_root), "new_root": base64.encode(found.new_root)}
        print(json.dumps({"old": old, "new": new, **roots, "proof": path}, indent=2))
        return 0
    say(f"size {old}, root {base64.encode(found.old_root)}")
    say(f"is the beginning of size {new}, root {base64.encode(found.new_root)}")
    for one in path:
        say(one)
    return 0


def export(
    log: Path,
    named_keys: Sequence[str],
    named_anchors: Sequence[Path],
    *,
    tiles: Path | None,
    to: Path | None,
    checkpoint: Path | None = None,
) -> int:
    """Write a verified copy: static tiles into a folder, or the lines up to the newest checkpoint into a file.

    Args:
        log: The file.
        named_keys: See `log_keys`.
        named_anchors: See `anchors_of`.
        tiles: Where to, or ``None``.
        to: Where to, or ``None``; one of the two is needed.
        checkpoint: With ``to``: where to keep the newest checkpoint, once the copy is durable.

    Raises:
        WrongUse: Neither or both are named, or the copy is there already.
        LogProofInvalid: The log is not in order, or no checkpoint signs any of it.
        StorageError: Something cannot be read or written; no half copy is left.
    """
    if (tiles is None) == (to is None):
        raise WrongUse("export needs --tiles FOLDER or --to FILE, one of them")
    if checkpoint is not None and to is None:
        raise WrongUse(
            "--checkpoint goes with --to", hint="tiles have their checkpoint in a file beside them"
        )
    if tiles is not None:
        keys, anchors = log_keys(log, named_keys), anchors_of(log, named_anchors)
        verified = export_tiles(log, tiles, keys, anchors, progress=progress_bar())
        say(f"{count(verified.size, 'entry', 'entries')} as tiles in {safe_text(str(tiles))}")
    elif to is not None:
        verified = _read(log, named_keys, named_anchors)
        if to.exists():
            raise WrongUse(f"{to} is there already", hint="name a new file")
        written = _copy(log, to, verified)
        if checkpoint is not None:
            write_atomically(checkpoint, verified.note, mode=0o644)
        say(f"{count(verified.size, 'entry', 'entries')}, {written:,} bytes, in {safe_text(str(to))}")
    return 0


def _copy(log: Path, to: Path, verified: Verified) -> int:
    """Copy the lines up to the newest commit line, which is the last that stands for `verified.size` entries."""
    done = seen = 0
    part = to.with_name(to.name + ".part")
    try:
        with log.open("rb") as source, part.open("wb") as target:
            for line in source:
                commit = line.startswith(b'{"checkpoint":')
                if not commit and seen == verified.size:
                    break
                seen += not commit
                done += target.write(line)
            target.flush()
            os.fsync(target.fileno())
        part.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise StorageError(f"{to} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return done


def _read(log: Path, named_keys: Sequence[str], named_anchors: Sequence[Path]) -> Verified:
    try:
        return read(log, log_keys(log, named_keys), anchors_of(log, named_anchors), progress=progress_bar())
    except LogProofInvalid as error:
        raise LogProofInvalid(
            error.message, hint=error.hint or f"run 'safeai audit --verify {log}'"
        ) from None
