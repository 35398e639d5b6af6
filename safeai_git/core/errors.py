"""Every error that the product raises on purpose, in one tree.

A refusal is not an error: allow, review and deny are values. An error means that no decision was reached,
and none of them may ever read as consent. The command line is the only place that turns one into an exit
code::

    SafeAIError                     never raised itself
    ├── WrongUse                    arguments that make no sense                           exit 2
    ├── CouldNotDecide              a decision was asked for and could not be reached      exit 3
    │   ├── PolicyError             the policy is missing, unreadable or invalid
    │   ├── RepositoryError         git or its objects cannot be read
    │   │   ├── ObjectMissing       an object is not in the object store
    │   │   ├── ObjectCorrupt       an object's bytes do not hash to its name
    │   │   └── HistoryTooShallow   commits that the question needs were never fetched
    │   ├── FormatError             foreign bytes that are not what they claim to be
    │   ├── KeyUnusable             no key, a wrong passphrase, a key file others can read
    │   ├── SandboxUnavailable      nothing here can isolate a check
    │   ├── StorageError            our own files cannot be written: full, read-only, not ours
    │   │   └── LogFull, LogAway, LogFailed    the Governor's log takes no entry: `governor.stores.port`
    │   ├── DeadlinePassed          the answer would come too late
    │   └── GovernorUnavailable     the policy needs the Governor and it did not answer
    └── LogProofInvalid             a log contradicts itself; never retried, never softened  exit 3
"""

from __future__ import annotations


class SafeAIError(Exception):
    """Base of the tree.

    Args:
        message: What is wrong, and with which object, in one sentence without a final full stop.
        hint: The next step for the reader, or an empty string when there is none.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUse(SafeAIError):
    """The arguments make no sense together."""


class CouldNotDecide(SafeAIError):
    """A decision was asked for and could not be reached. Never reads as "allowed"."""


class PolicyError(CouldNotDecide):
    """The policy is missing, unreadable or invalid.

    The message begins with ``source:line:column:`` where a position is known.
    """


class RepositoryError(CouldNotDecide):
    """Git, or the objects that it keeps, cannot be read."""


class ObjectMissing(RepositoryError):
    """An object that the question needs is not in the object store."""


class ObjectCorrupt(RepositoryError):
    """An object's bytes do not hash to its name, or are not an object of the expected kind."""


class HistoryTooShallow(RepositoryError):
    """The clone was cut off above the commits that the question needs."""


class FormatError(CouldNotDecide):
    """Foreign bytes are not what they claim to be."""


class KeyUnusable(CouldNotDecide):
    """There is no key to sign with, or the one there cannot be used."""


class SandboxUnavailable(CouldNotDecide):
    """No isolation can be had on this machine, so nothing was executed."""


class StorageError(CouldNotDecide):
    """One of our own files could not be written whole; what was there before is untouched."""


class DeadlinePassed(CouldNotDecide):
    """The time allowed for an answer is used up."""


class GovernorUnavailable(CouldNotDecide):
    """The policy needs the Governor, and it did not answer."""


class LogProofInvalid(SafeAIError):
    """A log contradicts itself or its own signature. Evidence of tampering, never a passing fault."""
