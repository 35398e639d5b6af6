"""``cache``: the trees that are kept between replays."""

from __future__ import annotations

from pathlib import Path

from safeai_git.commands.session import Session
from safeai_git.core.display import count, safe_text
from safeai_git.git.tree_cache import Kept, clear, default_place, kept


def cache(session: Session, *, empty: bool) -> int:
    """Show what is kept, or remove it; what a replay is using right now stays."""
    place = default_place(session.environ)
    found = Kept(0, 0) if place is None else clear(place) if empty else kept(place)
    if session.output_format != "text":
        folder = None if place is None else str(place)
        session.data({"folder": folder, "trees": found.entries, "bytes": found.bytes})
    session.say(in_words(place, found))
    return 0


def in_words(place: Path | None, found: Kept) -> str:
    """What is kept and where, in a line."""
    if place is None:
        return "no trees are kept: there is no folder in memory that is large enough and only this user's"
    if not found.entries:
        return f"no tree is kept in {safe_text(str(place))}"
    size = f"{found.bytes / 2**20:,.0f} MiB"
    return f"{count(found.entries, 'tree')}, about {size}, in {safe_text(str(place))} ('safeai-git cache --clear' removes)"
