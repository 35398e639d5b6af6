"""What other programs' records say: read strictly, in bounded time, told as hints, and deciding nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Repo

from safeai_git.agents import catalogue
from safeai_git.core.attribution import MOST_SIGNALS, Attribution, Signal
from safeai_git.core.errors import FormatError
from safeai_git.core.foreign_records import (
    LARGEST,
    LARGEST_LINE,
    MOST_CLAIMS,
    Claim,
    Record,
    parse_authorship_log,
    parse_trace,
    parse_traces,
)
from safeai_git.core.hints import NAMES_ANOTHER, NAMES_IT, NAMES_NONE, NOTE, hints, with_hints

COMMIT = "7734793b756b3921c88db5375a8c156e9532447b"
SESSION = "s_c9883b05a2487d::t_9f8e7d6c5b4a32"


def about(**more: object) -> str:
    """The metadata of an authorship log: one session of Claude, one prompt of Cursor, one person."""
    data: dict[str, object] = {
        "schema_version": "authorship/3.0.0",
        "git_ai_version": "1.4.5",
        "base_commit_sha": COMMIT,
        "prompts": {"abcd1234abcd1234": {"agent_id": {"tool": "cursor", "id": "x", "model": "gpt-5"}}},
        "humans": {"h_31dce776f88375": {"author": "Dev <dev@example.com>"}},
        "sessions": {
            "s_c9883b05a2487d": {"agent_id": {"tool": "claude", "id": "y", "model": "claude-opus-4-5"}}
        },
    }
    return json.dumps(data | more)


def log(attestations: str, **more: object) -> bytes:
    return f"{attestations}---\n{about(**more)}".encode()


def of_log(attestations: str, **more: object) -> tuple[Claim, ...]:
    return parse_authorship_log(log(attestations, **more)).claims


def trace(*ranges: dict[str, Any], contributor: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An Agent Trace record of one conversation."""
    said: dict[str, Any] = {"ranges": list(ranges) or [{"start_line": 10, "end_line": 12}]}
    if contributor is not None:
        said["contributor"] = contributor
    return {
        "version": "0.1.0",
        "id": "550e8400-e29b-41d4-a716-446655440000",
        "timestamp": "2026-01-25T10:00:00Z",
        "vcs": {"type": "git", "revision": COMMIT},
        "tool": {"name": "cursor", "version": "2.4.0"},
        "files": [{"path": "a.ts", "conversations": [said]}],
    } | more


def test_the_example_of_the_standard() -> None:
    found = parse_authorship_log(
        log(
            f"src/main.rs\n  {SESSION} 1-10,15-20\n  h_31dce776f88375 42-50\n"
            '"src/my lib.rs"\n  abcd1234abcd1234 1-50,60\n'
        )
    )
    assert found == Record(
        COMMIT,
        (
            Claim("src/main.rs", "ai", "claude", "claude-opus-4-5", 16),
            Claim("src/main.rs", "human", "", "", 9),
            Claim("src/my lib.rs", "ai", "cursor", "gpt-5", 51),
        ),
    )


def test_a_log_that_attests_nothing() -> None:
    """git-ai writes one for every commit."""
    assert of_log("", prompts={}, sessions={}) == ()
    assert hints(NOTE, COMMIT, [parse_authorship_log(log(""))], catalogue()) == []


@pytest.mark.parametrize(
    ("key", "contributor", "tool"),
    [
        ("abcd1234abcd1234", "ai", "cursor"),
        ("s_00000000000000::t_9f8e7d6c5b4a32", "ai", ""),  # of a session that the note does not tell
        ("abcd123", "ai", ""),
        ("h_00000000000000", "human", ""),
        ("ai_agent", "unknown", ""),
        ("94341aa7-fe48-4948-ab50-4fa9abb78651", "unknown", ""),
    ],
)
def test_keys_of_every_age(key: str, contributor: str, tool: str) -> None:
    (claim,) = of_log(f"a\n  {key} 7\n")
    assert (claim.contributor, claim.tool) == (contributor, tool)


def test_a_tool_called_human_is_a_person() -> None:
    (claim,) = of_log("a\n  abcd123 7\n", prompts={"abcd123": {"agent_id": {"tool": "human"}}})
    assert claim.contributor == "human"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no divider"),
        (b"a\n  abcd123 1\n", "no divider"),
        (b"---\n[]", "is not a JSON object"),
        (b"---\n{", "not JSON"),
        (b"---\n{}", "not of version 3"),
        (log("", schema_version="authorship/4.0.0"), "not of version 3"),
        (log("", schema_version=3), "is not text"),
        (log("", prompts=[]), "is not a JSON object"),
        (log("", sessions={"x": 1}), "is not a JSON object"),
        (log("", sessions={"x": {"agent_id": {"tool": []}}}), "is not text"),
        (log("  abcd123 1\n"), "attests no lines of a file"),
        (log("a\n  abcd123\n"), "attests no lines of a file"),
        (log("a\n  abcd123 0\n"), "attests no lines of a file"),
        (log("a\n  abcd123 1,\n"), "attests no lines of a file"),
        (log("a\n  abcd123 1 2\n"), "attests no lines of a file"),
        (log("a\n  abcd123 3-2\n"), "attests no lines of a file"),
        (log("a\n  abcd123 1--2\n"), "attests no lines of a file"),
        (log(f"a\n  abcd123 {LARGEST_LINE + 1}\n"), "attests no lines of a file"),
        (log("a\n  ab/cd 1\n"), "a key of no known form"),
        (log(" a\n"), "is no path"),
        (log("x" * 5000 + "\n"), "is no path"),
        (b"\xff\n---\n" + about().encode(), "not UTF-8"),
        (log("") + b" " * LARGEST, "at most"),
        (log("a\n" + "  abcd123 1\n" * (MOST_CLAIMS + 1)), "more than"),
    ],
)
def test_what_is_no_authorship_log(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        parse_authorship_log(data)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ('"a b"', "a b"),
        ('"a', '"a'),
        ('a"', 'a"'),
        ('""', '""'),
        ('"', '"'),
        ("a b", "a b"),
        ("x" * 4096, "x" * 4096),
    ],
)
def test_paths_in_quotes(path: str, read: str) -> None:
    assert [claim.path for claim in of_log(f"{path}\n\n  abcd123 1\n")] == [read]


def test_a_session_is_explained_by_its_own_table_only() -> None:
    prompts = {"ai_agent": {"agent_id": {"tool": "cursor"}}}
    assert [one.contributor for one in of_log("a\n  ai_agent 1\n", prompts=prompts)] == ["ai"]
    assert [one.tool for one in of_log("a\n  s_c9883b05a2487d 1\n")] == [""]


def test_bounds_are_what_they_say() -> None:
    full = log("")
    assert parse_authorship_log(full + b" " * (LARGEST - len(full))).claims == ()
    with pytest.raises(FormatError, match="the authorship log is"):
        parse_authorship_log(full + b" " * (LARGEST - len(full) + 1))
    assert list(parse_traces(b" " * LARGEST)) == []
    record = trace(*[{"start_line": 1, "end_line": 1}] * MOST_CLAIMS)
    assert len(parse_trace(json.dumps(record).encode()).claims) == MOST_CLAIMS


def test_as_many_claims_and_lines_as_are_read() -> None:
    assert len(of_log("a\n" + "  abcd123 1\n" * MOST_CLAIMS)) == MOST_CLAIMS
    assert of_log(f"a\n  abcd123 {LARGEST_LINE}\n")[0].lines == 1


def test_the_minimal_record_of_agent_trace() -> None:
    """Its README, appendix A; and its reference implementation writes 1.0."""
    minimal = trace(contributor={"type": "ai"}, version="1.0")
    del minimal["vcs"], minimal["tool"]
    assert parse_trace(json.dumps(minimal).encode()) == Record("", (Claim("a.ts", "ai", "", "", 3),))


def test_a_range_has_its_own_contributor() -> None:
    record = trace(
        {"start_line": 1, "end_line": 1},
        {"start_line": 2, "end_line": 5, "contributor": {"type": "human"}},
        contributor={"type": "ai", "model_id": "anthropic/claude-opus-4-5"},
    )
    assert [
        (one.contributor, one.model, one.lines) for one in parse_trace(json.dumps(record).encode()).claims
    ] == [
        ("ai", "anthropic/claude-opus-4-5", 1),
        ("human", "", 4),
    ]
    (both,) = parse_trace(json.dumps(trace(contributor={"type": "mixed"})).encode()).claims
    assert both.contributor == "mixed"
    (silent,) = parse_trace(json.dumps(trace()).encode()).claims
    assert silent.contributor == "unknown"


def test_records_one_a_line_or_one_in_all() -> None:
    one, two = trace(), trace(vcs={"type": "jj", "revision": "kkmpptxz"})
    lines = f"{json.dumps(one)}\n\n{json.dumps(two)}\n".encode()
    assert [record.revision for record in parse_traces(lines)] == [COMMIT, ""]
    assert [record.revision for record in parse_traces(json.dumps(one, indent=2).encode())] == [COMMIT]
    assert list(parse_traces(b"\n")) == []


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([], "is not a JSON object"),
        (trace(version="2.0"), "of no version"),
        (trace(version=""), "of no version"),
        (trace(files={}), "is not a list"),
        (trace(files=[1]), "is not a JSON object"),
        (trace(files=[{"path": "a"}]), "is not a list"),
        (trace(files=[{"path": 1, "conversations": []}]), "is not text"),
        (trace({"start_line": 0, "end_line": 1}), "names no lines"),
        (trace({"start_line": 2, "end_line": 1}), "names no lines"),
        (trace({"start_line": 1}), "names no lines"),
        (trace({"start_line": "1", "end_line": 1}), "names no lines"),
        (trace({"start_line": 1, "end_line": LARGEST_LINE + 1}), "names no lines"),
        (trace(contributor={"type": "robot"}), "of no known type"),
        (trace(*[{"start_line": 1, "end_line": 1}] * (MOST_CLAIMS + 1)), "more than"),
    ],
)
def test_what_is_no_trace_record(record: object, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        parse_trace(json.dumps(record).encode())


def test_a_file_of_traces_has_an_end() -> None:
    with pytest.raises(FormatError, match="at most"):
        list(parse_traces(b" " * (LARGEST + 1)))


def told(*records: Record) -> list[tuple[str, str, float]]:
    return [
        (one.agent, one.author_class, one.confidence) for one in hints(NOTE, COMMIT, records, catalogue())
    ]


def test_hints_are_weak_and_weaker_where_the_record_names_another_commit() -> None:
    claims = (Claim("a", "ai", "claude", "", 3),)
    assert told(Record(COMMIT, claims)) == [("claude-code", "ai", NAMES_IT)]
    assert told(Record("", claims)) == [("claude-code", "ai", NAMES_NONE)]
    assert told(Record("1" * 40, claims)) == [("claude-code", "ai", NAMES_ANOTHER)]
    (elsewhere,) = hints(NOTE, COMMIT, [Record("1" * 40, claims)], catalogue())
    assert elsewhere.evidence == "3 lines by claude, about 111111111111"


def test_hints_beside_people() -> None:
    person = Claim("a", "human", "", "", 3)
    assert told(Record(COMMIT, (person,))) == []
    assert told(Record(COMMIT, (person, Claim("b", "ai", "", "openai/gpt-5", 1)))) == [
        ("codex", "mixed", 0.5)
    ]
    assert told(Record(COMMIT, (Claim("a", "mixed", "Unheard Of", "", 1),))) == [("", "mixed", 0.5)]
    assert told(Record(COMMIT, (Claim("a", "unknown", "claude", "", 1),))) == []
    (nobody,) = hints(NOTE, COMMIT, [Record(COMMIT, (Claim("a", "ai", "", "", 2),))], catalogue())
    assert nobody.evidence == "2 lines by an AI"


def test_hints_change_no_answer_and_do_not_add_up() -> None:
    many = [Signal("note", str(number), "ai", 0.5, "x") for number in range(2 * MOST_SIGNALS)]
    strong = Signal("trailer", "amp", "ai", 0.95, "y")
    found = with_hints(Attribution("ai", "amp", 0.95, (strong,)), many)
    assert (found.author_class, found.agent, found.confidence) == ("ai", "amp", 0.95)
    assert found.signals[0] == strong
    assert len(found.signals) == MOST_SIGNALS


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_reads_notes_only_when_asked(repo: Repo) -> None:
    head = repo.commit("one", {"a": "1"})
    note = log(f"a\n  {SESSION} 1\n", base_commit_sha=head).decode()
    repo.git("notes", "--ref=ai", "add", "-m", note, head)
    repo.git("notes", "--ref=agent-trace", "add", "-m", json.dumps(trace(contributor={"type": "ai"})), head)
    assert rows(repo.safeai("attribution", "--format", "jsonl").out)[0]["signals"] == []
    (row,) = rows(repo.safeai("attribution", "--hints", "--format", "jsonl").out)
    assert (row["class"], row["agent"]) == ("human", "")
    assert [(one["kind"], one["agent"], one["confidence"], one["evidence"]) for one in row["signals"]] == [
        ("note", "claude-code", 0.5, "1 lines by claude claude-opus-4-5"),
        ("trace", "cursor", 0.1, "3 lines by cursor, about 7734793b756b"),
    ]


def test_the_command_looks_commits_up_in_a_file(repo: Repo) -> None:
    head = repo.commit("one", {"a": "1"})
    record = trace(contributor={"type": "ai"}, vcs={"type": "git", "revision": head})
    path = repo.path.parent / "traces.jsonl"
    path.write_text(f"{json.dumps(record)}\n{{}}\n", encoding="utf-8")
    done = repo.safeai("attribution", "--records", str(path), "--format", "jsonl")
    assert done.code == 0, done.both
    (row,) = rows(done.out)
    assert [(one["kind"], one["agent"]) for one in row["signals"]] == [("trace", "cursor")]
    assert "1 foreign records could not be read; the first: the trace record is of no version" in done.err
    missing = repo.safeai("attribution", "--records", str(path.parent / "none"))
    assert (missing.code, "cannot be read" in missing.err) == (2, True), missing.both


def test_the_command_goes_on_after_notes_that_are_none(repo: Repo) -> None:
    head = repo.commit("one", {"a": "1"})
    repo.git("notes", "--ref=ai", "add", "-m", "\x1b[2J", head)
    done = repo.safeai("attribution", "--hints")
    assert done.code == 0, done.both
    assert "1 foreign records could not be read" in done.err
    assert "\x1b" not in done.both
