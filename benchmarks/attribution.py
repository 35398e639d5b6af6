"""Who wrote the commits of real repositories: a table by agent and signal, and a score over a labelled file.

    python -m benchmarks.attribution REPOSITORY... [--hints]
    python -m benchmarks.attribution --labelled FILE[.xz] --repositories FOLDER [--wrong 20] [--hints]

The labelled file is TSV with the columns ``repo`` (owner/name), ``sha``, ``label`` (ai, human or bot) and ``tier``; its
repositories are looked for in the folder as ``owner+name/repo``, ``owner/name`` or ``name``, bare or not. ``ai`` and
``mixed`` count as found. Tiers that begin with `APART` (notes, footers, review suggestions, prose) are reported on
lines of their own and count for neither figure. With ``--hints`` git-ai's and Agent Trace's notes are read too: rows
of their own in the table, a column of their own in the score, and no word in either figure. Nothing is written.
"""

from __future__ import annotations

import argparse
import csv
import io
import lzma
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.agents import catalogue
from safeai_git.core.attribution import Attribution
from safeai_git.core.errors import FormatError
from safeai_git.git.facts import Origin
from safeai_git.git.foreign import ForeignRecords
from safeai_git.git.reader import ProposalReader
from safeai_git.git.repository import Repository, discover
from safeai_git.git.store import read_commit

APART = ("E", "F", "G", "P")
MOST_ROWS = 40


class Attributor:
    """Says of the commits of one repository what ``safeai-git attribution`` says of them."""

    def __init__(self, repository: Repository, *, hints: bool) -> None:
        self._repository = repository
        self._reader = ProposalReader(repository, catalogue(), Origin())
        self._foreign = ForeignRecords(repository, catalogue()) if hints else None

    def of(self, name: str) -> Attribution:
        """One commit."""
        try:
            found = self._reader.attribution(read_commit(self._repository.store, name))
        except FormatError:
            found = Attribution("unknown")
        return self._foreign.beside(found, name, notes=True) if self._foreign else found


def table(paths: Iterable[Path], *, hints: bool) -> None:
    """Print what was found in whole repositories, and how fast."""
    classes: Counter[str] = Counter()
    signals: Counter[tuple[str, str, str]] = Counter()
    commits, seconds = 0, 0.0
    for path in paths:
        repository = discover(path, os.environ)
        attributor = Attributor(repository, hints=hints)
        began = time.perf_counter()
        names = repository.git(["rev-list", "--exclude=refs/notes/*", "--all"]).decode("ascii").split()
        for name in names:
            found = attributor.of(name)
            classes[found.author_class] += 1
            signals.update({(one.agent or "(unnamed)", one.kind, one.author_class) for one in found.signals})
        seconds += time.perf_counter() - began
        commits += len(names)
        repository.close()
    print(f"{commits:,} commits in {seconds:.1f} s: {commits / max(seconds, 1e-9):,.0f} a second")
    print("  ".join(f"{name} {number:,}" for name, number in classes.most_common()))
    print(f"{'agent':24} {'signal':14} {'alone':6} {'commits':>9}")
    rows = signals.most_common()
    for (agent, kind, alone), number in rows[:MOST_ROWS]:
        print(f"{agent[:24]:24} {kind:14} {alone:6} {number:9,}")
    if len(rows) > MOST_ROWS:
        print(f"... and {len(rows) - MOST_ROWS:,} more rows, {sum(n for _, n in rows[MOST_ROWS:]):,} commits")


@dataclass
class Score:
    """Counts over a labelled file."""

    found: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    absent: int = 0
    by_tier: Counter[tuple[str, str]] = field(default_factory=Counter)
    hinted: Counter[str] = field(default_factory=Counter)

    @property
    def precision(self) -> float:
        """Found rightly of all that was found."""
        return self.found / max(1, self.found + len(self.false))

    @property
    def recall(self) -> float:
        """Found of all that was there."""
        return self.found / max(1, self.found + len(self.missed))


def located(folder: Path, repo: str) -> Path | None:
    """Where a repository of the file lies."""
    owner, _, name = repo.partition("/")
    places = (f"{owner}+{name}/repo", repo, f"{repo}.git", name, f"{name}.git")
    return next((folder / place for place in places if (folder / place).is_dir()), None)


def scored(file: Path, folder: Path, *, hints: bool) -> Score:
    """Hold our answers against the labels."""
    content = file.read_bytes()
    text = (lzma.decompress(content) if file.suffix == ".xz" else content).decode("utf-8")
    grouped: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE):
        grouped[row["repo"]].append(row)
    score = Score()
    for repo, rows in grouped.items():
        path = located(folder, repo)
        if path is None:
            score.absent += len(rows)
            continue
        repository = discover(path, os.environ)
        attributor = Attributor(repository, hints=hints)
        for row in rows:
            found = attributor.of(row["sha"])
            kinds = ", ".join(f"{one.kind} {one.agent}" for one in found.signals) or "no signal"
            what = f"{repo}@{row['sha'][:10]} {row['tier']}: {found.author_class} ({kinds})"
            positive = found.author_class in ("ai", "mixed")
            tier = row["tier"] if row["label"] == "ai" else row["label"]
            score.by_tier[tier, found.author_class] += 1
            score.hinted[tier] += any(one.kind in ("note", "trace") for one in found.signals)
            if row["label"] != "ai":
                if positive:
                    score.false.append(what)
            elif not row["tier"].startswith(APART):
                if positive:
                    score.found += 1
                else:
                    score.missed.append(what)
        repository.close()
    return score


def report(score: Score, most: int) -> None:
    """Print a score."""
    tiers = sorted({tier for tier, _ in score.by_tier})
    print(f"{'tier or label':28} {'ai':>6} {'mixed':>6} {'human':>6} {'bot':>6} {'unknown':>8} {'hinted':>7}")
    for tier in tiers:
        counts = [score.by_tier[tier, name] for name in ("ai", "mixed", "human", "bot", "unknown")]
        apart = "  (apart)" if tier.startswith(APART) else ""
        print(f"{tier:28} " + " ".join(f"{n:6}" for n in counts) + f"   {score.hinted[tier]:7}{apart}")
    for title, rows in (("missed", score.missed), ("false", score.false)):
        for row in rows[:most]:
            print(f"{title}: {row}")
    print(
        f"precision {score.precision:.4f}, recall {score.recall:.4f} "
        f"({score.found} found, {len(score.missed)} missed, {len(score.false)} false, {score.absent} not there)"
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, nargs="*")
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--repositories", type=Path)
    parser.add_argument("--wrong", type=int, default=20, help="how many wrong answers to show")
    parser.add_argument("--hints", action="store_true", help="read git-ai's and Agent Trace's notes too")
    asked = parser.parse_args()
    if bool(asked.labelled) != bool(asked.repositories) or not (asked.repository or asked.labelled):
        parser.error("name repositories, or --labelled together with --repositories")
    if asked.repository:
        table(asked.repository, hints=asked.hints)
    if asked.labelled:
        score = scored(asked.labelled, asked.repositories, hints=asked.hints)
        report(score, asked.wrong)
        return 0 if score.found else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
