"""What a person sees while checks run: their output, and on a terminal a line that says what is running.

The line is redrawn in place and taken away before anything else is printed. Where nobody watches there is none.
"""

from __future__ import annotations

import codecs
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TextIO, TypeVar

from safeai_git.core.display import safe_text

T = TypeVar("T")

_BETWEEN_LOOKS_SECONDS = 0.25
_QUIET_SECONDS = 1.0
_WIDEST = 78
_CLEAR = "\r\x1b[K"


class Live(Generic[T]):
    """Shows checks as they run; entered, it gives back what `build` makes of it.

    Args:
        build: Makes what is told about, from the functions of this.
        say: Prints a step.
        stream: Where output and the line go.
        named: Whether each line of output bears the name of its check, since several run at one time.
    """

    def __init__(
        self, build: Callable[[Live[T]], T], say: Callable[[str], None], stream: TextIO, *, named: bool
    ) -> None:
        self._build = build
        self._say = say
        self._stream = stream
        self._named = named
        self._watched = stream.isatty()
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._rest: dict[str, str] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._at_start = True
        self._drawn = False
        self._printed = 0.0
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> T:
        if self._watched:
            self._ticker.start()
        return self._build(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._watched:
            self._ticker.join()
        with self._lock:
            self._erase()

    def say(self, text: str) -> None:
        """A step, on a line of its own."""
        with self._lock:
            self._erase()
            self._end_line()
            self._say(text)

    def state(self, name: str, running: bool) -> None:
        """A check begins to run or has ended."""
        with self._lock:
            if running:
                self._running[name] = time.monotonic()
                self._decoders[name] = codecs.getincrementaldecoder("utf-8")("replace")
            else:
                self._running.pop(name, None)
                if rest := self._rest.pop(name, ""):
                    self._write(f"{name}: {safe_text(rest)}\n")

    def output(self, name: str, piece: bytes) -> None:
        """What a check prints, with whatever could move the cursor or worse made visible."""
        with self._lock:
            text = self._decoders[name].decode(piece)
            if self._named:
                *lines, self._rest[name] = (self._rest.get(name, "") + text).split("\n")
                text = "".join(f"{name}: {safe_text(line)}\n" for line in lines)
            else:
                text = safe_text(text, newlines=True)
            self._write(text)

    def _write(self, text: str) -> None:
        if text:
            self._erase()
            self._stream.write(text)
            self._stream.flush()
            self._at_start = text.endswith("\n")
            self._printed = time.monotonic()

    def _end_line(self) -> None:
        if not self._at_start and self._watched:
            self._stream.write("\n")
            self._at_start = True

    def _tick(self) -> None:
        while not self._over.wait(_BETWEEN_LOOKS_SECONDS):
            with self._lock:
                now = time.monotonic()
                if self._running and self._at_start and now - self._printed > _QUIET_SECONDS:
                    said = ", ".join(f"{name} {now - begun:.0f} s" for name, begun in self._running.items())
                    self._stream.write(f"{_CLEAR}... running: {said}"[: _WIDEST + len(_CLEAR)])
                    self._stream.flush()
                    self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(_CLEAR)
            self._drawn = False
