"""The entry point, and the only place where an error becomes an exit code.

A hook runs at every commit, so ``hook run`` goes straight to its use case; every other command is parsed by typer,
which is not loaded before it is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from safeai_git.core.errors import SafeAIError, WrongUse

ALLOWED, REFUSED, WRONG_USE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130


def guarded(action: Callable[[], int]) -> int:
    """Run an action and return its exit code; whatever goes wrong reads as "could not decide", never as 0.

    Errors of ours are shown as a message with the next step. Anything else is a fault of the program: it is named as
    one, with a traceback when ``SAFEAI_DEBUG`` is set.
    """
    try:
        return action()
    except SafeAIError as error:
        _say(f"safeai-git: {error.message}")
        if error.hint:
            _say(f"  hint: {error.hint}")
        return WRONG_USE if isinstance(error, WrongUse) else UNDECIDED
    except KeyboardInterrupt:
        _say("safeai-git: interrupted; no decision was made")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone; keep the interpreter from complaining about it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNDECIDED
    except OSError as error:
        _say(f"safeai-git: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        _say("  hint: no decision was made; check free space and permissions, then try again")
        return UNDECIDED
    except Exception as error:
        if os.environ.get("SAFEAI_DEBUG"):
            raise
        _say(f"safeai-git: a fault of the program: {type(error).__name__}: {error}")
        _say("  hint: no decision was made; SAFEAI_DEBUG=1 shows where it happened, please report it")
        return UNDECIDED


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except OSError:
        return


def main() -> None:
    """Run ``safeai-git``."""
    arguments = sys.argv[1:]
    if arguments[:2] == ["hook", "run"] and len(arguments) > 2 and not arguments[2].startswith("-"):
        from safeai_git.hook import run_hook

        code = guarded(lambda: run_hook(arguments[2], arguments[3:]))
    else:
        from safeai_git.cli import run

        code = guarded(lambda: run(arguments))
    try:
        sys.stdout.flush()
    except OSError:
        code = code or UNDECIDED
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
