"""The attack corpus: what an adversary can propose, built with real git objects.

Each attack is one function that says what the attack is, what has to happen and why. `ATTACKS` lists them all; the
ids are those of `catalogue.toml`. ``python -m tests.corpus [ID...] --to FOLDER`` builds them on disk, and
``tests/test_corpus.py`` holds the product against each of them in every mode in which it makes sense.
"""

from __future__ import annotations

from . import changes, commits, histories, identity, objects, patches, trust_root
from .model import ATTACKS

__all__ = ["ATTACKS"]

# Importing them is what fills the register; the names are kept so that nobody takes the imports for idle.
MODULES = (trust_root, identity, objects, changes, histories, commits, patches)
