"""What a shell command plainly does against the gate: git told to leave hooks out, and redirections into some files.

Advice, not a wall: a shell has endless ways to write the same thing, and what it writes is judged by git's objects.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

_ENDS = frozenset(";&|()\n")
_PREFIXES = frozenset({"sudo", "env", "command", "exec", "time", "nohup", "then", "do", "else", "{", "!"})
_GIT_VALUES = frozenset({"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--config-env"})
_COMMIT_VALUES = frozenset("mFCct")
"""Short options of git commit that take a value: what stands behind them is no option."""
_HOOKED = frozenset({"commit", "push", "merge", "am", "rebase"})


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a line, as words; nothing of a text that cannot be taken apart into words.

    Args:
        text: As a POSIX shell would be given it.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= _ENDS:
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        pass  # an open quote: what came before it counts
    yield words


def without_hooks(words: list[str]) -> str:
    """The word with which a command tells git to leave its hooks out; empty when it does not."""
    rest = list(words)
    while rest and (rest[0] in _PREFIXES or ("=" in rest[0] and not rest[0].startswith("-"))):
        del rest[0]
    if not rest or posixpath.basename(rest.pop(0)) not in ("git", "git.exe"):
        return ""
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        value = rest.pop(0) if option in _GIT_VALUES and rest else ""
        if option == "-c" and value.lower().startswith("core.hookspath="):
            return f"-c {value}"
    command = rest.pop(0) if rest else ""
    if command not in _HOOKED:
        return ""
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--no-veri") and "--no-verify".startswith(word):
            return word
        if command == "commit" and word.startswith("-") and not word.startswith("--"):
            for at, letter in enumerate(word[1:], 1):
                if letter == "n":
                    return word
                if letter in _COMMIT_VALUES:
                    if at == len(word) - 1 and rest:
                        del rest[0]
                    break
                if letter in "uS":
                    break
        elif command == "commit" and word in ("--message", "--file", "--author", "--date", "--trailer"):
            del rest[:1]
    return ""


def written(text: str, folder: str) -> Iterator[str]:
    """The files that a line redirects into, as absolute paths, following a plain ``cd``.

    Args:
        text: The line.
        folder: Where it runs.
    """
    for words in commands(text):
        for at, word in enumerate(words[:-1]):
            if ">" in word and not set(word) - set("<>&|"):
                yield posixpath.join(folder, words[at + 1])
        if len(words) == 2 and words[0] == "cd":
            folder = posixpath.join(folder, words[1])
