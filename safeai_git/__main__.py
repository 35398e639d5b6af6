"""The entry point, and the only place where an error becomes an exit code.

A hook runs at every commit, so ``hook run`` goes straight to its use case, and so do the plain lines of other commands
(`plain`); everything else is parsed by typer, which is not loaded before it is needed. Whatever goes wrong, up to a
fault of the program, ends with a message and a code other than 0.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import FrameType
from typing import TextIO

from safeai_git import plain
from safeai_git.apart import in_a_copy
from safeai_git.core.errors import DeadlinePassed, SafeAIError, WrongUse
from safeai_git.report.style import for_terminal

_WAITED_FOR = (["hook", "run", "pre-commit"], ["hook", "run", "commit-msg"])
"""They keep nothing open when they end."""

AGENT_SECONDS = 25.0
"""What an agent's hook may take: one that the agent itself gives up on (after 30 or 60 seconds) refuses nothing."""
_SECONDS_MORE = 2.0
"""For whatever does not hear the alarm."""

ALLOWED, REFUSED, WRONG_USE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: end as after Ctrl-C, so that whatever was begun is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def guarded(action: Callable[[], int], program: str = "safeai-git") -> int:
    """Run an action and return its exit code; whatever goes wrong reads as "could not decide", never as 0.

    Errors of ours are shown as a message with the next step. Anything else is a fault of the program: it is named as
    one, with a traceback when ``SAFEAI_DEBUG`` is set.
    """
    try:
        return action()
    except SafeAIError as error:
        _say(f"{program}: {error.message}")
        if error.hint:
            _say(f"  hint: {error.hint}")
        return WRONG_USE if isinstance(error, WrongUse) else UNDECIDED
    except Terminated as error:
        _say(f"{program}: terminated; no decision was made")
        return 128 + error.number
    except KeyboardInterrupt:
        _say(f"{program}: interrupted; no decision was made")
        return INTERRUPTED
    except BrokenPipeError:
        return UNDECIDED  # whoever read our output is gone, and so would be whoever read a message
    except OSError as error:
        _say(f"{program}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        _say("  hint: no decision was made; check free space and permissions, then try again")
        return UNDECIDED
    except BaseException as error:  # noqa: BLE001 - a panic in a native library is no Exception, and no consent either
        if os.environ.get("SAFEAI_DEBUG"):
            import traceback

            traceback.print_exc()
        _say(f"{program}: a fault of the program: {type(error).__name__}: {error}")
        _say("  hint: no decision was made; SAFEAI_DEBUG=1 shows where it happened, please report it")
        return UNDECIDED


def _say(text: str) -> None:
    try:
        print(for_terminal(text), file=sys.stderr)
    except OSError:
        return


def finish(action: Callable[[], int], program: str = "safeai-git", *, at_once: bool = False) -> None:
    """Run an action as the whole process: its exit code, with 0 only if its output arrived too.

    Args:
        action: What is done.
        program: Its name, for messages.
        at_once: End without taking down what was loaded: of use where somebody waits and nothing is left to do.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _streams()
    code = guarded(action, program)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or UNDECIDED
        if not isinstance(error, BrokenPipeError):
            _say(f"{program}: the output could not be written: {error.strerror}")
        # Keep the interpreter from trying once more, and complaining, when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if at_once:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    raise Terminated(number)


def _streams() -> None:
    """Standard streams that take everything we print, and no closed descriptor that a later file would be given."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(handle, True)
    os.close(handle)
    sys.stdout = _stream(sys.stdout)
    sys.stderr = _stream(sys.stderr)


def _stream(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no fault
    return stream


def main() -> None:
    """Run ``safeai-git``."""
    arguments = sys.argv[1:]
    if arguments:
        # A shell that asks for completions passes no arguments. With some, the variable would end the program with
        # 0 before anything is judged.
        os.environ.pop("_SAFEAI_GIT_COMPLETE", None)
    action = plain.read(arguments)
    waited_for = action or arguments[:2] == ["agent", "hook"] or arguments[:3] in _WAITED_FOR
    finish(action or (lambda: _run(arguments)), at_once=bool(waited_for))


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """End what is done here with `DeadlinePassed` once it took too long, whatever it waits for; where there are alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        raise DeadlinePassed(
            f"no decision within {seconds:g} seconds", hint="'safeai-git doctor' says whether git works here"
        )

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(
        signal.ITIMER_REAL, seconds, 1
    )  # again, in case that somebody takes the first for a refusal
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _agent_hook(arguments: list[str]) -> int:
    """An agent's own hook. Of all codes only 2 stops the agent, so whatever goes wrong has to end with 2.

    A crash or a kill ends with none of ours, and what hangs in a native library hears no alarm: so the work is done in a
    copy of this process, and this one answers where the copy does not.
    """
    if not hasattr(os, "fork"):
        return _judged_for_agent(arguments)
    ended = None

    def waited() -> int:
        nonlocal ended
        with _within(AGENT_SECONDS + _SECONDS_MORE):
            ended = in_a_copy(lambda: _judged_for_agent(arguments))
        return ALLOWED

    guarded(waited)
    if ended is None or ended[0] not in (ALLOWED, WRONG_USE):
        why = "the hook crashed, was killed or hung before it had decided"
        _say(f"safeai-git: {why}")
        return _refused_for_agent(arguments, f": {why}")
    code, printed = ended
    sys.stdout.buffer.write(printed)
    return code


def _judged_for_agent(arguments: list[str]) -> int:
    why = ""

    def asked() -> int:
        nonlocal why
        try:
            with _within(AGENT_SECONDS):
                return judged()
        except SafeAIError as error:
            why = f": {error.message}" + (f" ({error.hint})" if error.hint else "")
            raise

    def judged() -> int:
        if arguments[:2] == ["agent", "hook"] and len(arguments) == 3 and not arguments[2].startswith("-"):
            gc.disable()  # while modules are loaded everything lives: nothing is found, and looking takes its time
            from safeai_git.commands.agent_call import read_call

            call = read_call(arguments[2])
            from safeai_git.commands.agent_hook import run_hook

            gc.enable()
            return run_hook(call)
        from safeai_git.cli import run

        return run(arguments)

    return _refused_for_agent(arguments, why) if guarded(asked) else ALLOWED


def _refused_for_agent(arguments: list[str], why: str) -> int:
    """Say no, for want of an answer, in the way that this agent heeds."""
    from safeai_git.agents.adapters import ADAPTERS

    adapter = ADAPTERS.get(arguments[-1])
    if adapter is None or adapter.heeds_code:
        return WRONG_USE
    print(adapter.answer("deny", f"safeai-git could not decide{why}"))
    return ALLOWED


def _run(arguments: list[str]) -> int:
    if arguments[:2] == ["hook", "run"] and len(arguments) > 2 and not arguments[2].startswith("-"):
        from safeai_git.hook import run_hook

        return run_hook(arguments[2], arguments[3:])
    if ("agent", "hook") in pairwise(arguments):
        return _agent_hook(arguments)
    from safeai_git.cli import run

    return run(arguments)


if __name__ == "__main__":
    main()
