"""Which guards `tests/mutation.py` takes out, the tests that have to notice, and what cannot be noticed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent / "safeai_git"

PATHS = ("test_paths.py",)
POLICY = ("test_policy.py",)
ENVELOPE = ("test_envelope.py",)
KEYRING = ("test_keyring.py",)
WILDMATCH = ("test_wildmatch.py",)

MESSAGES = ("test_message_rules.py",)
HINTS = ("test_hints.py",)
CORE = ("test_core_guards.py",)
LOG = ("test_log_guards.py", "test_log_entries.py")
NOTES = ("test_log_guards.py", "test_log_notes.py")

TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # module: (functions and tables whose guards are taken out; tests to run after tests/test_guards.py)
    "core/rules/__init__.py": (("MALFORMED", "RULES"), ()),
    **{
        f"core/rules/{path.name}": (("*",), ())
        for path in sorted((_PACKAGE / "core" / "rules").glob("*.py"))
        if path.name != "__init__.py"
    },
    "core/rules/replay_failed.py": (("*",), CORE),
    **{
        f"core/rules/{name}.py": (("*",), MESSAGES)
        for name in ("ai_disclosure", "ai_sign_off", "accountable_human", "protected_path")
    },
    "core/evaluate.py": (("*",), MESSAGES),
    "core/message.py": (("*",), MESSAGES),
    "core/attribution.py": (
        (
            *("with_free_text", "attribute", "_decided", "_message", "_signals", "_identity", "_signal"),
            *("_of_branch_and_environment", "_of_message", "_of_trailers", "_speaks", "_agent_of_key"),
            *("_of_trailer", "_of_text", "_tool_in"),
        ),
        ("test_attribution.py", *MESSAGES),
    ),
    "core/trailers.py": (("*",), ("test_trailers.py",)),
    "core/foreign_records.py": (("*",), HINTS),
    "core/hints.py": (("*",), HINTS),
    "core/finding.py": (("decide",), ()),
    "core/paths.py": (
        ("FOLDS", "_drop_ignorables", "portability_problems", "_component_problems", "from_json"),
        PATHS,
    ),
    "core/objects.py": (
        ("parse_tree", "tree_problems", "parse_commit", "_ONCE", "MODES_THAT_GIT_WRITES"),
        (),
    ),
    "core/envelope.py": (
        ("__post_init__", "parse", "format", "_signature", "check_envelope", "open_envelope"),
        (*CORE, *ENVELOPE),
    ),
    "core/trust.py": (("matches", "refusal"), KEYRING),
    "core/verdict.py": (("parse_statement", "statement"), CORE),
    "core/policy_parts.py": (("CHOOSABLE", "GOVERNANCE"), POLICY),
    "core/policy_reader.py": (("_applies_to", "_agents", "_outcomes", "_checks", "_rules"), POLICY),
    "core/policy_values.py": (
        ("boolean", "number", "text", "matching", "one_of", "pattern", "variable", "host_path", "expression"),
        POLICY,
    ),
    "core/policy_faults.py": (("__init__", "need", "mapping", "_is_list", "check"), POLICY),
    "core/policy.py": (("governs", "admits", "tier", "safe_mode", "threshold", "checks_for"), POLICY),
    "core/wildmatch.py": (("_parse", "_refuse_odd_bracket", "first_match_folded"), WILDMATCH),
    "core/canonical.py": (
        ("loads", "_is_plain", "_object", "_integer", "_float", "_check", "_check_text"),
        ("test_canonical.py",),
    ),
    "core/publickey.py": (
        ("__post_init__", "from_blob", "is_key_id", "parse_openssh"),
        ("test_keys.py", "test_envelope.py", "test_keyring.py"),
    ),
    "core/kill_switch.py": (
        ("__post_init__", "parse", "apply", "engaged", "find", "lease", "state", "_texts"),
        ("test_kill_switch.py",),
    ),
    "core/key_list.py": (
        (
            "__post_init__",
            "_register",
            "_revoke",
            "apply",
            "trusts",
            "counts",
            "parse",
            "_listed",
            "_parsed",
            "_text",
            "revoke_data",
        ),
        ("test_key_list.py",),
    ),
    "core/receipt.py": (("parse", "check_receipt"), ("test_log_guards.py",)),
    "core/log/chain.py": (("lines_of", "follow", "commit", "agree", "holds_valid_commit"), LOG),
    "core/log/checkpoint.py": (
        ("parse_number", "__post_init__", "parse", "open_checkpoint"),
        (*NOTES, "test_log_entries.py"),
    ),
    "core/log/cosignature.py": (("parse", "message"), NOTES),
    "core/log/entry.py": (
        (
            "_made",
            "format",
            "parse",
            "taken_apart",
            "receipt_head",
            "completed",
            "parse_time",
            "parse_commit",
        ),
        LOG,
    ),
    "core/log/merkle.py": (
        ("__post_init__", "verify_inclusion", "verify_consistency", "_need_hashes"),
        ("test_log_guards.py", "test_log_merkle.py"),
    ),
    "core/log/note.py": (
        ("is_key_name", "__post_init__", "parse", "bounded", "believed_about", "holds", "check"),
        NOTES,
    ),
    "core/log/policy.py": (
        ("is_met_by", "parse_policy", "_read", "_add_log", "_group", "_new_name", "_vkey"),
        NOTES,
    ),
    "core/log/proof.py": (("parse", "verify_proof"), NOTES),
    "core/log/tiles.py": (("parse", "is_in", "format_bundle", "parse_bundle", "_within"), LOG),
    "keys/keyring.py": (("parse", "public", "trusts"), KEYRING),
    "keys/ed25519.py": (("verify",), ENVELOPE),
    "approvals.py": (("counted", "_open", "from_the_future", "_is_approver"), ()),
    "weighing.py": (
        ("weigh", "_open", "_decide", "_mismatches", "_gives_more", "trusts", "passed_checks"),
        (),
    ),
    "git/changes.py": (("compare", "_compare_folder", "_collisions"), ()),
    "git/content.py": (("lfs_pointer", "resolve_link"), ()),
}
"""``*`` stands for every function of a module."""

SAME: dict[tuple[str, str], str] = {
    (
        "core/envelope.py",
        "parse: `b2a_base64(parsed.untrusted_payload, newline=False) == found[1] and b2a_base64(parsed.s...` is always false",
    ): "a shortcut: the reading below it says the same",
    (
        "core/attribution.py",
        "_of_branch_and_environment: `metadata.branch` is always true",
    ): "nothing begins with the prefix of a branch",
    (
        "core/attribution.py",
        "_of_message: `not message or not HINTS.search(lower)` is always false",
    ): "a shortcut: every key and phrase holds a hint, which a test says",
    (
        "core/attribution.py",
        "_of_message: `not message` dropped from `not message or not HINTS.search(lower)`",
    ): "the same",
    (
        "core/attribution.py",
        "_of_message: `not HINTS.search(lower)` dropped from `not message or not HINTS.search(lower)`",
    ): "the same",
    (
        "core/attribution.py",
        "_of_message: `':' in message` is always true",
    ): "a shortcut: without a colon there is no trailer",
    (
        "core/attribution.py",
        "_of_trailers: `'\\n---' in message` is always true",
    ): "a shortcut: without a divider both readings are one, and its signals count once",
    (
        "core/attribution.py",
        "_of_trailers: `block.start >= at` becomes `block.start > at`",
    ): "a second block never begins where the first one ends: the divider stands between",
    (
        "core/attribution.py",
        "_of_trailer: `says_so` dropped from `says_so or _speaks(catalogue, key)`",
    ): "a shortcut: a key that says so speaks",
    (
        "core/canonical.py",
        "_check_text: `not text.isascii()` is always true",
    ): "a shortcut: ASCII holds no surrogate",
    (
        "core/canonical.py",
        "loads: `b'\\\\u' in data or data.count(b'{') + data.count(b'[') > depth` is always true",
    ): "a shortcut: what is looked for cannot be there",
    (
        "core/canonical.py",
        "loads: `data.count(b'{') + data.count(b'[') > depth` becomes `data.count(b'{') + data.count(b'[') >= depth`",
    ): "the same",
    (
        "core/receipt.py",
        "parse: `not rest` dropped from `not rest and _DIGEST.fullmatch(digest)`",
    ): "what is written anew has no more members, and has to be the same",
    (
        "core/log/tiles.py",
        "parse_bundle: `at + 2 > len(data)` dropped from `at + 2 > len(data) or end > len(data)`",
    ): "an entry of half a length ends beyond the data too",
    (
        "core/publickey.py",
        "is_key_id: `len(encoded) != 43` dropped from `len(encoded) != 43 or len(text) != 50 or (not text.isascii())`",
    ): "50 characters without the prefix are no whole base64",
    (
        "core/envelope.py",
        "format: `self._line` is always false",
    ): "a shortcut: made again, the line is the same",
    (
        "core/rules/protected_path.py",
        "of_anybody: `b''` dropped from `one.path or b''`",
    ): "each of those findings names a path",
    (
        "core/envelope.py",
        "parse: `found is not None` is always false",
    ): "a shortcut: the long way says the same",
    (
        "core/envelope.py",
        "parse: `len(line) <= MAX_LINE` is always false",
    ): "the same",
    (
        "core/envelope.py",
        "parse: `len(line) <= MAX_LINE` becomes `len(line) < MAX_LINE`",
    ): "the same",
    (
        "core/envelope.py",
        "parse: `b64encode(parsed.untrusted_payload) == found[1] and b64encode(parsed.signatures[0].sig)...` is always false",
    ): "the same",
    (
        "core/log/note.py",
        "parse: `not plus` dropped from `not plus or not second or (not _KEY_ID.fullmatch(stated))`",
    ): "where the first is missing, the second is",
    (
        "core/log/note.py",
        "parse: `not second` dropped from `not plus or not second or (not _KEY_ID.fullmatch(stated))`",
    ): "what lacks it is an empty key, which is refused as one",
    (
        "core/log/merkle.py",
        "verify_inclusion: `here` dropped from `not here & 1 and here`",
    ): "it is 0 only where the last leaf's place is, and such a proof was refused",
    (
        "core/log/merkle.py",
        "verify_consistency: `here` dropped from `not here & 1 and here`",
    ): "the same",
    (
        "core/log/entry.py",
        "taken_apart: `not isinstance(value, dict)` dropped from `not isinstance(value, dict) or end != len(line) - 1`",
    ): "what begins with a brace is an object, and after an error the end is wrong",
    (
        "core/log/chain.py",
        "holds_valid_commit: `is_commit(line.data)` dropped from `line.ended and is_commit(line.data)`",
    ): "a shortcut: what begins otherwise is no commit line",
    (
        "keys/keyring.py",
        "trusts: the condition `refusal is not None` dropped",
    ): "where no line serves, each has its refusal",
    (
        "core/wildmatch.py",
        "_parse: `len(components) > 1` dropped from `len(components) > 1 and (not components[0].tokens)`",
    ): "a single component is never empty: the empty pattern is refused before",
    (
        "core/wildmatch.py",
        "_parse: `len(components) > 1` becomes `len(components) >= 1`",
    ): "the same",
    (
        "core/wildmatch.py",
        "_refuse_odd_bracket: `byte > 127` becomes `byte >= 127`",
    ): "DEL is a control character, which no pattern holds",
    (
        "core/wildmatch.py",
        "first_match_folded: `self._twins is None` is always true",
    ): "a shortcut: made again, the twins are the same",
    (
        "core/policy_values.py",
        "one_of: `isinstance(value, str)` dropped from `isinstance(value, str) and value in options`",
    ): "the options are text, and nothing else equals text",
    (
        "core/rules/policy_expressions.py",
        "findings: `not policy.rules` dropped from `not policy.rules or not proposal.edits`",
    ): "a shortcut: without rules the loop says nothing either",
    (
        "core/paths.py",
        "_drop_ignorables: `text.isascii()` is always false",
    ): "a shortcut: none of them is ASCII",
    (
        "core/paths.py",
        "_component_problems: `not text.isascii()` is always true",
    ): "a shortcut: ASCII has none of these",
    (
        "core/paths.py",
        "_component_problems: `'~' in text` dropped from `'~' in text and _SHORT_NAME.fullmatch(text)`",
    ): "a shortcut: the expression wants a tilde too",
    ("core/paths.py", "FOLDS: `':' in text` is always true"): "a shortcut: without a colon nothing is cut",
    ("core/paths.py", "FOLDS: `_AT_THE_END.search(text)` is always true"): "a shortcut: nothing else is cut",
    ("core/paths.py", "FOLDS: `'~' in text` is always true"): "a shortcut: short names have a tilde",
    (
        "core/objects.py",
        "parse_commit: `not separator` is always false",
    ): "the empty line that is left is a header without a name, which counts for nothing",
    (
        "weighing.py",
        "passed_checks: `claim.kind != 'verdict'` dropped from `claim.kind != 'verdict' or claim.tree != tree or (not claim.checks)`",
    ): "an approval names no checks",
    (
        "weighing.py",
        "passed_checks: `not claim.checks` dropped from `claim.kind != 'verdict' or claim.tree != tree or (not claim.checks)`",
    ): "a shortcut: there is nothing to add",
    (
        "git/changes.py",
        "_compare_folder: `added` is always true",
    ): "a shortcut: nothing added collides with nothing",
    (
        "git/changes.py",
        "_compare_folder: the condition `new` dropped",
    ): "the empty tree has no entries to object to",
}
"""Mutants that behave as the original does, and why: ``(module, what)``."""

LONE: dict[str, tuple[str, ...]] = {
    "core/log/policy.py": (
        "parse_policy: `len(data) > MAX_BYTES` becomes `len(data) >= MAX_BYTES`",
        "parse_policy: `len(lines) > MAX_LINES` becomes `len(lines) >= MAX_LINES`",
        "_read: `len(url) <= 1` becomes `len(url) < 1`",
        "_group: `int(threshold) > len(members)` becomes `int(threshold) >= len(members)`",
        "_new_name: `name in policy.groups` dropped from `name == NONE or name in policy.witnesses or name in policy.groups`",
    ),
    "core/log/proof.py": ("parse: `len(data) > 2 * MAX_BYTES` becomes `len(data) >= 2 * MAX_BYTES`",),
    "core/log/tiles.py": (
        "parse: `found[1]` is always false",
        "parse: `len(path) > 64` becomes `len(path) >= 64`",
        "parse: `tile.width > WIDTH` becomes `tile.width >= WIDTH`",
    ),
    "weighing.py": (
        "weigh: the condition `not line.startswith(RECEIPT)` dropped",
        "_decide: `worst is not None and worst.outcome is Outcome.DENY` is always false",
        "_decide: `worst.outcome is Outcome.DENY` dropped from `worst is not None and worst.outcome is Outcome.DENY`",
        "_decide: `worst is not None and worst.outcome is Outcome.REVIEW` is always false",
        "_decide: `worst is not None and worst.outcome is Outcome.REVIEW` is always true",
        "_decide: `asks is None` dropped from `claim.decision == 'allow' and asks is None`",
        "_decide: `worst.outcome is Outcome.REVIEW` dropped from `worst is not None and worst.outcome is Outcome.REVIEW`",
        "_decide: `Outcome.DENY` becomes a warning",
        "_decide: `Outcome.REVIEW` becomes a warning",
        "_decide: `asks` is always false",
    ),
}
"""Mutants that ``test_lone_guards.py`` is there for; no other one runs it."""
