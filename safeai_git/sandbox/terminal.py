"""A terminal of its own for somebody who looks around in a sandbox.

The person's terminal is never shared: what is typed is copied to the new one, and what comes back is shown with every
control made visible but those that end a line, step back or ring. So nothing inside can type into the person's
terminal (TIOCSTI needs a descriptor of it), change its title or clipboard, or make it answer. When the sandbox has
ended, what was typed meanwhile is thrown away.
"""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Self, TextIO

from safeai_git.core.display import safe_text

if sys.platform != "win32":
    import fcntl
    import termios
    import tty

_PIECE = 4096
_END_OF_INPUT = b"\x04"
_OBEYED = re.compile(r"([\r\n\t\b\a]+)")

ENVIRONMENT = {"TERM": "dumb", "PS1": "sandbox$ "}
"""For programs that honour it: no escapes at all, since they would be shown and not obeyed."""

SHELL = (
    "/bin/sh",
    "-c",
    """shell=/bin/sh; [ -x /bin/bash ] && shell='/bin/bash --norc --noprofile'
    command -v setsid >/dev/null && exec setsid -c -w $shell -i
    exec $shell -i""",
)
"""With a terminal that controls it, so that Ctrl-C reaches what runs."""


class Terminal:
    """Connects a person's terminal with a new one, for as long as it is entered.

    ``ends`` are the new one's: a descriptor of ours, and the path of the other.

    Args:
        keyboard: Descriptor of the person's terminal.
        screen: Where to show what comes back.
    """

    def __init__(self, keyboard: int, screen: TextIO) -> None:
        self._keyboard = keyboard
        self._screen = screen
        self._stack = ExitStack()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.ends = (-1, "")

    def __enter__(self) -> Self:
        with self._stack as stack:
            ours, theirs = os.openpty()
            stack.callback(os.close, ours)
            self.ends = (ours, os.ttyname(theirs))
            os.close(theirs)  # only the sandbox may hold it: it has ended when nobody does any more
            self._copy_size()
            before = termios.tcgetattr(self._keyboard)
            stack.callback(termios.tcsetattr, self._keyboard, termios.TCSAFLUSH, before)
            tty.setraw(self._keyboard)
            previous = signal.signal(signal.SIGWINCH, self._resized)
            stack.callback(signal.signal, signal.SIGWINCH, previous)
            woken, wake = os.pipe()
            stack.callback(os.close, woken)
            reader = threading.Thread(target=self._copy_keys, args=(woken,), daemon=True)
            reader.start()
            stack.callback(reader.join)
            stack.callback(os.close, wake)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, piece: bytes) -> None:
        """Show what came back."""
        parts = _OBEYED.split(self._decoder.decode(piece))
        self._screen.write("".join(part if at % 2 else safe_text(part) for at, part in enumerate(parts)))
        self._screen.flush()

    def _copy_keys(self, woken: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._keyboard, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select()]
                if woken in ready:
                    return
                keys = os.read(self._keyboard, _PIECE)
                with suppress(OSError):
                    os.write(self.ends[0], keys or _END_OF_INPUT)
                if not keys:
                    selector.unregister(self._keyboard)

    def _resized(self, _signal: int, _frame: FrameType | None) -> None:
        self._copy_size()

    def _copy_size(self) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(self._keyboard, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.ends[0], termios.TIOCSWINSZ, size)
