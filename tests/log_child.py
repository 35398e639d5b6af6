"""Processes that append to a log and may be killed at any moment. Started by test_log_crash.py, one for many.

Reads commands from standard input and forks for each, so that a crash costs milliseconds: ``steps FOLDER FIRST`` opens the
log and appends three entries one after the other, ``appends FOLDER FIRST`` has opened it before anybody can attach,
``load FOLDER FIRST`` appends from eight threads until it is killed. The child waits for a line before it begins, so that
somebody can attach to it. Every answer is one line: ``ack NUMBER INDEX NOTE``.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools_log import LOG_SIGNER, ORIGIN

from safeai_git.core.errors import SafeAIError
from safeai_git.core.log import base64
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog, Receipt
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.stores.port import LogAway, LogFailed

PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


def draft(number: int) -> Draft:
    return Draft.of_data("policy", f"id-{number}", {"number": number, "filling": "x" * (number * 37 % 900)})


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def line() -> str:
    """A line of standard input with its end, byte by byte: a child must not swallow what is meant for its parent."""
    text = b""
    while not text.endswith(b"\n") and (byte := os.read(0, 1)):
        text += byte
    return text.decode()


def append(log: AuditLog, number: int) -> None:
    result = log.append(draft(number))
    assert isinstance(result, Receipt)
    say(f"ack {number} {result.index} {base64.encode(result.checkpoint)}")


def open_log(folder: str) -> AuditLog:
    if folder.startswith("postgresql:"):
        from safeai_git.governor.stores.postgres import PostgresStore

        url, _, log_id = folder.partition("|")
        return start_log(PostgresStore(url, log_id), LogSigner(ORIGIN, [LOG_SIGNER]))
    return open_file_log(Path(folder), LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0, remember_every=0.005)


def steps(log: AuditLog, first: int) -> None:
    for number in range(first, first + 3):
        try:
            append(log, number)
        except LogFailed:
            for again in range(3):
                try:
                    append(log, number + 100 + again)
                    say("later success")
                except LogFailed:
                    continue
            raise
    log.close()


def load(log: AuditLog, first: int) -> None:
    def work(begin: int) -> None:
        number = begin
        while True:
            try:
                append(log, number)
            except LogAway:
                continue  # the same entry under the same id, as a client does
            number += 8

    threads = [threading.Thread(target=work, args=(first + at,), daemon=True) for at in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def main() -> None:
    libc = ctypes.CDLL(None)
    while command := line():
        words = command.split()
        if len(words) != 3:
            continue  # "go", or the rest of it, meant for a child that died before it had read it
        mode, folder, first = words
        child = os.fork()
        if child == 0:
            libc.prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
            try:
                opened = open_log(folder) if mode == "appends" else None
                say(f"pid {os.getpid()}")
                line()
                say("begun")
                (load if mode == "load" else steps)(opened or open_log(folder), int(first))
            except (SafeAIError, OSError) as error:
                say(f"fail {type(error).__name__}: {error}".replace("\n", " "))
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


main()
