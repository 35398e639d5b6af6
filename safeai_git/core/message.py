"""What a commit message says about who answers for a change: who signed it off, and which people it names.

Looked at only where a policy asks, so that reading a history costs nothing for it. Like every signal of attribution
these are claims: whoever can write the commit can write them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from safeai_git.core.attribution_catalogue import Catalogue, split_mention
from safeai_git.core.trailers import read_block

_SIGN_OFF = re.compile(
    r"^[ \t]{0,8}signed[-_ ]off[-_ ]by[ \t]*:[ \t]*(?P<who>[^\r\n]{1,1000})", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+")


@dataclass(frozen=True, slots=True)
class Message:
    """A commit message that is there to be judged.

    Attributes:
        text: The message.
        catalogue: The agents, to tell them from people.
        committed_by_author: Whether author and committer are the same.
    """

    text: str
    catalogue: Catalogue = field(repr=False, compare=False)
    committed_by_author: bool = True

    def sign_offs(self) -> Iterator[tuple[str, bool]]:
        """Whoever signed off, wherever in the message, each once; and whether it is a program."""
        for who in dict.fromkeys(found["who"].strip() for found in _SIGN_OFF.finditer(self.text)):
            yield who, self._is_program(who)

    def people(self, keys: Collection[str]) -> Iterator[str]:
        """People with an address whom trailers of these keys name, in git's own block.

        Args:
            keys: In any letter case.
        """
        wanted = {key.casefold() for key in keys}
        pairs = [*read_block(self.text).pairs, *read_block(self.text, divider=False).pairs]
        for who in dict.fromkeys(value for key, value in pairs if key.casefold() in wanted):
            name, email = split_mention(who)
            if name.strip() and _ADDRESS.fullmatch(email) and not self._is_program(who):
                yield who

    def _is_program(self, who: str) -> bool:
        return self.catalogue.mention(who[:1000]) is not None
