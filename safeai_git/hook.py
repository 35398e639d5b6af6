"""The git hooks: what each of them judges, and what it lets pass.

A hook is advice given early: it stops what the policy denies and shows what needs review. Nothing rests on its having
run; `verify`, CI and pre-receive do not ask whether it did. Each loads only what it takes, since somebody waits for it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence

from safeai_git.core.errors import WrongUse

_MODULES = {
    "pre-commit": "safeai_git.commit_hook",
    "commit-msg": "safeai_git.commit_hook",
    "post-commit": "safeai_git.sealing_hook",
    "pre-push": "safeai_git.sealing_hook",
    "pre-receive": "safeai_git.server_hook",
    "update": "safeai_git.server_hook",
    "post-receive": "safeai_git.server_hook",
}
"""Who runs which. Those of a server are not installed in clones: docs/pre-receive.md."""


def run_hook(name: str, arguments: Sequence[str]) -> int:
    """Run one hook as git does.

    Args:
        name: Which.
        arguments: What git passes.

    Returns:
        0 to let git go on, 1 to stop it.
    """
    if name not in _MODULES:
        raise WrongUse(f"there is no hook '{name}'", hint=f"hooks there are: {', '.join(_MODULES)}")
    gc.disable()  # while modules are loaded everything lives: nothing is found, and looking takes its time
    module = importlib.import_module(_MODULES[name])
    gc.freeze()
    gc.enable()
    code: int = module.run(name, arguments)
    return code
