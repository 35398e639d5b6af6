"""The policy VM: expressions (CEL) over the facts of a change. The only door to the CEL library.

Promises true or false from an expression that reached its end on facts that are there; everything else (another
result, an error on the way, a budget that is used up) is `CouldNotDecide`, never false. An expression cannot reach a
clock, a file or a network: it sees the facts of `safeai_git.core.facts` and the functions of
`safeai_git.core.expression_bounds`, where its cost is bounded before it runs.

Importing this module loads the library's extension, 6 MB; only policies that have rules need it.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from safeai_git.core.display import safe_text
from safeai_git.core.errors import CouldNotDecide, PolicyError
from safeai_git.core.expression_bounds import CHANGE_FACTS, EDIT_FACTS, Cost, examine
from safeai_git.core.policy_faults import kind

if TYPE_CHECKING:
    from types import ModuleType

    from cel import Program

BUDGET = 25_000_000
"""Steps for all rules of a policy on one change, each about a fifth of a microsecond."""

CALL_STEPS = 80


def _library() -> ModuleType:
    """The library's extension module without its package.

    The package's ``__init__`` imports its command line and with it a terminal toolkit: 230 ms where the extension
    needs 20. This is importlib's own recipe for a module of a package; it is entered in ``sys.modules``, so that
    whoever imports the package later gets the same one.
    """
    name = "cel.cel"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("cel")
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec(name, folders) if folders else None
    if spec is None or spec.loader is None:
        raise CouldNotDecide(
            "the policy has rules, and the library that evaluates them is missing",
            hint="pip install common-expression-language",
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


_cel = _library()


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: As the policy writes it.
        cost: What one evaluation takes.
    """

    text: str
    cost: Cost
    _program: Program = field(repr=False, compare=False)
    _throughout: Program | None = field(repr=False, compare=False, default=None)

    def evaluate(self, facts: Mapping[str, Any]) -> bool:
        """Ask it about facts: ``change``, ``edits`` and, for a rule that is asked of each edit, ``edit``.

        All expressions of a thread share one `PolicyVM`, and so the budget for a change.

        Raises:
            CouldNotDecide: It gave no answer, or not one of true and false, or would cost too much.
        """
        return _LOCAL.vm.run(self, facts)

    def is_false_throughout(self, facts: Mapping[str, Any]) -> bool:
        """Whether it is false for each of the facts' ``edits``, asked of all of them at once.

        False where it is true for one, has no answer for one, or the budget would not last: whoever wants to know
        more evaluates it for each.
        """
        return self._throughout is not None and _LOCAL.vm.is_false_throughout(self, self._throughout, facts)


class PolicyVM:
    """Evaluates the rules of a policy, within one budget for each change.

    The facts are converted once for each change: the VM recognises the objects under ``change`` and ``edits`` when it
    meets them again, so they must not be altered in between.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._change: object = None
        self._edits: object = None
        self._edit: object = None
        self._context = _cel.Context()
        self._spent = 0
        self._weight = 0

    def __call__(self, when: str, facts: Mapping[str, Any]) -> bool:
        """An expression's text and the facts, to true or false.

        Raises:
            CouldNotDecide: The expression is invalid (`PolicyError`) or gave no answer.
        """
        return self.run(compile_rule(when, each="edit" if "edit" in facts else "change"), facts)

    def run(self, expression: Expression, facts: Mapping[str, Any]) -> bool:
        """Evaluate a compiled expression.

        Raises:
            CouldNotDecide: It gave no answer, or not one of true and false, or the budget is used up.
        """
        self._take(facts)
        self._spent += CALL_STEPS + expression.cost.steps(self._weight)
        if self._spent > self._budget:
            raise CouldNotDecide(
                f"the policy's rules would take more than {self._budget:,} steps on this change",
                hint="split the change, or write rules with 'each: edit' instead of macros within macros",
            )
        self._edit = facts.get("edit")
        try:
            result = expression._program.execute(self._context)  # noqa: SLF001 - its own class's other half
        except Exception as error:
            raise CouldNotDecide(
                f"the expression gave no answer: {_told(error)}",
                hint="'safeai-git policy lint' checks expressions",
            ) from error
        if not isinstance(result, bool):
            raise CouldNotDecide(f"the expression gave {kind(result)}, not true or false")
        return result

    def is_false_throughout(
        self, expression: Expression, throughout: Program, facts: Mapping[str, Any]
    ) -> bool:
        """See `Expression.is_false_throughout`; charged as if it had been evaluated for each."""
        self._take(facts)
        steps = len(facts["edits"]) * (CALL_STEPS + expression.cost.steps(self._weight))
        if self._spent + steps > self._budget:
            return False
        try:
            if throughout.execute(self._context) is not True:
                return False
        except Exception:  # noqa: BLE001 - one of them has no answer, and is asked for by itself
            return False
        self._spent += steps
        return True

    def _take(self, facts: Mapping[str, Any]) -> None:
        change, edits = facts.get("change"), facts.get("edits")
        if change is not self._change or edits is not self._edits or change is None:
            self._load(change, edits)

    def _load(self, change: object, edits: object) -> None:
        context = _cel.Context()
        variables = {
            name: value for name, value in (("change", change), ("edits", edits)) if value is not None
        }
        try:
            context.update(variables)
        except Exception as error:
            raise CouldNotDecide(f"the facts cannot be given to an expression: {_told(error)}") from error
        # A resolver is asked for what the context does not hold; changing the context would convert it all again.
        context.set_variable_resolver(lambda name: self._edit if name == "edit" else None)
        self._context, self._change, self._edits = context, change, edits
        self._spent, self._weight = 0, _weight(edits)


class _Local(threading.local):
    def __init__(self) -> None:
        self.vm = PolicyVM()


_LOCAL = _Local()


def compile_rule(when: str, each: str = "edit") -> Expression:
    """Compile an expression.

    Args:
        when: The expression.
        each: ``edit`` if it may name ``edit``, ``change`` if it may not.

    Raises:
        PolicyError: It is not CEL, reaches beyond what is offered, is too costly, or cannot give true or false.
    """
    return _compiled(when, each)


@lru_cache(maxsize=256)
def _compiled(when: str, each: str) -> Expression:
    reading = examine(when, each=each)
    program = _program(when)
    for written in reading.regexes:
        _try(_program(f"''.matches({written})"), "the regular expression", lenient=False)
    _try(program, "the expression", lenient=True)
    return Expression(when, reading.cost, program, _throughout(when) if each == "edit" else None)


def _throughout(when: str) -> Program | None:
    """What is true if an expression is false, and not merely no truth, for each of ``edits``; ``None`` if it cannot be had.

    One call instead of one for each edit. An answer that is neither true nor false does not equal false, and an error
    stays one through ``all``, so both are left to the evaluation of each.
    """
    try:
        return _program(f"edits.all(edit, ({when}\n) == false)")  # a comment may end the expression
    except PolicyError:
        return None


def _program(text: str) -> Program:
    try:
        program: Program = _cel.compile(text)
    except Exception as error:
        _, _, what = str(error).partition("ERROR: <input>:")
        where, _, said = (what.splitlines() or [""])[0].partition(": ")
        line, _, column = where.partition(":")
        at = f"line {line}, column {column} of the expression: " if line and column else ""
        raise PolicyError(f"{at}{safe_text(said[:200]) or 'it does not compile'}") from error
    return program


SAMPLE_EDIT: dict[str, Any] = {name: "x" if made is str else made(1) for name, made in EDIT_FACTS.items()}
SAMPLE_CHANGE: dict[str, Any] = {name: "x" if made is str else made(1) for name, made in CHANGE_FACTS.items()}


def _try(program: Program, what: str, *, lenient: bool) -> None:
    """Evaluate once on made-up facts of the right types, so that a mistake of types shows before it matters.

    What depends on the facts' values (a division by zero, an index, a text that is no number) is let pass.
    """
    try:
        result = program.execute({"change": SAMPLE_CHANGE, "edits": [SAMPLE_EDIT], "edit": SAMPLE_EDIT})
    except (ArithmeticError, LookupError):
        return
    except Exception as error:
        if lenient and "parse error" in str(error):
            return
        raise PolicyError(f"{what} cannot work: {_told(error)}") from error
    if not isinstance(result, bool):
        raise PolicyError(f"{what} gives {kind(result)}, not true or false", hint="compare it with something")


def _weight(edits: object) -> int:
    """The number of edits, and more where their paths are long."""
    if not isinstance(edits, Sequence):
        return 0
    return len(edits) + sum(len(edit.get("path", "")) for edit in edits if isinstance(edit, Mapping)) // 256


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {safe_text(str(error)[:80])}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next(
        (line for line in lines if line.startswith("error:")), lines[0] if lines else type(error).__name__
    )
    return safe_text(said.partition(". ")[0][:200])
