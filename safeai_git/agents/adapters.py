"""The agents whose hooks are known: how each tells of a tool call, how it is answered, where its settings are.

Data. Each row says where its form was seen; `calls` reads the calls, `settings` puts the hook in and takes it out.
What a tool is not listed for is passed without an opinion: what it writes is judged by git's objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

HOOK_COMMAND = "safeai-git agent hook "


class Tool(NamedTuple):
    """What a tool does, and under which names its input says so; of several names the one that is there counts.

    ``kind`` is ``write`` (whole content), ``replace`` (one text by another), ``several`` (a list of replacements),
    ``insert`` (below a line), ``notebook`` (a cell), ``delete``, ``patch`` (files in the form of apply_patch),
    ``command`` (a shell), ``file`` (whichever of these the input fits, else the path alone) or ``editor`` (whichever
    its ``command`` names).
    """

    kind: str
    path: tuple[str, ...] = ("file_path",)
    text: tuple[str, ...] = ("content",)
    old: tuple[str, ...] = ("old_string",)
    new: tuple[str, ...] = ("new_string",)
    every: tuple[str, ...] = ("replace_all",)


class Settings(NamedTuple):
    """Where a hook is put: in a file of JSON, as an entry of the list ``hooks.EVENT``; or as a file of its own.

    ``place`` is below the working tree, ``own_place`` below the home folder; ``entry`` is the entry with the command,
    ``around`` what a file that holds nothing else says besides; ``text`` is a whole file.
    """

    place: str
    own_place: str
    event: str = ""
    entry: Mapping[str, object] | None = None
    around: Mapping[str, object] | None = None
    text: str = ""


class Adapter(NamedTuple):
    """One agent.

    ``event`` is the value of ``event_key``, where the agent says one; ``asks`` whether it can put an edit to the
    person at the terminal. An agent for which ``heeds_code`` is false is told by its protocol, not by exit code 2,
    that nothing could be decided. ``silent`` is what no opinion looks like.
    """

    name: str
    source: str
    tools: Mapping[str, Tool]
    settings: Settings
    event: str = ""
    event_key: str = "hook_event_name"
    tool_key: str = "tool_name"
    input_key: str = "tool_input"
    folder_keys: tuple[str, ...] = ("cwd",)
    asks: bool = False
    heeds_code: bool = True
    silent: str = ""
    note: str = ""

    def answer(self, decision: str, reason: str) -> str:
        """``deny`` or ``ask`` and why, as the agent reads it on standard output."""
        return json.dumps(_ANSWERS[self.name](decision, reason))


def _of_claude(decision: str, reason: str) -> dict[str, object]:
    said = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    }
    return {"hookSpecificOutput": said}


_ANSWERS: dict[str, Callable[[str, str], dict[str, object]]] = {
    "claude-code": _of_claude,
    "codex": _of_claude,
    "cursor": lambda decision, reason: {
        "permission": decision,
        "user_message": reason,
        "agent_message": reason,
    },
    "gemini-cli": lambda decision, reason: {"decision": decision, "reason": reason},
    "copilot-cli": lambda decision, reason: {
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    },
    "opencode": lambda decision, reason: {"decision": decision, "reason": reason},
}


def _nested(agent: str, tools: Mapping[str, Tool], **more: object) -> dict[str, object]:
    hook = {"type": "command", "command": HOOK_COMMAND + agent, **more}
    return {"matcher": "|".join(tools), "hooks": [hook]}


_CLAUDE = {
    "Write": Tool("write"),
    "Edit": Tool("replace"),
    "MultiEdit": Tool("several"),
    "NotebookEdit": Tool("notebook", path=("notebook_path",)),
    "Bash": Tool("command"),
}
_CODEX = {"apply_patch": Tool("patch", text=("command",)), "Bash": Tool("command")}
_EITHER = Tool("file", path=("file_path", "path"), text=("content", "contents"))
_CURSOR = {
    "Write": _EITHER,
    "StrReplace": _EITHER,
    "Edit": _EITHER,
    "Delete": Tool("delete", path=("file_path", "path")),
    "Shell": Tool("command"),
}
_GEMINI = {
    "write_file": Tool("write"),
    "replace": Tool("replace", every=("allow_multiple", "expected_replacements")),
    "run_shell_command": Tool("command"),
}
_COPILOT_FILE = Tool(
    "write",
    path=("path",),
    text=("file_text", "content"),
    old=("old_str", "old_string"),
    new=("new_str", "new_string"),
)
_COPILOT = {
    "create": _COPILOT_FILE,
    "edit": _COPILOT_FILE._replace(kind="replace"),
    "str_replace_editor": _COPILOT_FILE._replace(kind="editor"),
    "apply_patch": Tool("patch", text=("patch", "input")),
    "bash": Tool("command"),
    "powershell": Tool("command"),
}
_OPENCODE_FILE = Tool(
    "write", path=("filePath",), old=("oldString",), new=("newString",), every=("replaceAll",)
)
_OPENCODE = {
    "write": _OPENCODE_FILE,
    "edit": _OPENCODE_FILE._replace(kind="replace"),
    "multiedit": _OPENCODE_FILE._replace(kind="several"),
    "apply_patch": Tool("patch", text=("patchText",)),
    "patch": Tool("patch", text=("patchText",)),
    "bash": Tool("command"),
}

PLUGIN = """\
// Put here by 'safeai-git agent install opencode'; 'safeai-git agent uninstall opencode' takes it out again.
// Each edit and command is shown to safeai-git before it is made; what it refuses is not made.
import { spawnSync } from "node:child_process"

export const SafeaiGit = async ({ directory }) => ({
  "tool.execute.before": async (input, output) => {
    const call = JSON.stringify({ tool: input.tool, args: output.args, cwd: directory })
    const asked = spawnSync("safeai-git", ["agent", "hook", "opencode"], { input: call, encoding: "utf8", cwd: directory })
    if (asked.error && asked.error.code === "ENOENT") return
    if (asked.error || asked.status !== 0) throw new Error(asked.stderr || "safeai-git could not decide")
    const said = asked.stdout.trim()
    if (said) throw new Error(JSON.parse(said).reason)
  },
})
"""

ADAPTERS = {
    one.name: one
    for one in (
        Adapter(
            "claude-code",
            "https://code.claude.com/docs/en/hooks",
            _CLAUDE,
            Settings(
                ".claude/settings.json",
                ".claude/settings.json",
                "PreToolUse",
                _nested("claude-code", _CLAUDE),
            ),
            event="PreToolUse",
            asks=True,
        ),
        Adapter(
            "codex",
            "https://developers.openai.com/codex/hooks; openai/codex, codex-rs/hooks/src/events/pre_tool_use.rs",
            _CODEX,
            Settings(".codex/hooks.json", ".codex/hooks.json", "PreToolUse", _nested("codex", _CODEX)),
            event="PreToolUse",
            note="Codex runs a hook only after you have trusted it: look at it with /hooks",
        ),
        Adapter(
            "cursor",
            "https://cursor.com/docs/hooks.md",
            _CURSOR,
            Settings(
                ".cursor/hooks.json",
                ".cursor/hooks.json",
                "preToolUse",
                {"command": HOOK_COMMAND + "cursor", "matcher": "|".join(_CURSOR), "failClosed": True},
                {"version": 1},
            ),
            event="preToolUse",
            folder_keys=("cwd", "workspace_roots"),
            silent="{}",
        ),
        Adapter(
            "gemini-cli",
            "google-gemini/gemini-cli, docs/hooks/reference.md",
            _GEMINI,
            Settings(
                ".gemini/settings.json",
                ".gemini/settings.json",
                "BeforeTool",
                _nested("gemini-cli", _GEMINI, name="safeai-git"),
            ),
            event="BeforeTool",
        ),
        Adapter(
            "copilot-cli",
            "https://docs.github.com/en/copilot/reference/copilot-cli-reference/cli-hooks-reference",
            _COPILOT,
            Settings(
                ".github/hooks/safeai-git.json",
                ".copilot/hooks/safeai-git.json",
                "preToolUse",
                {
                    "type": "command",
                    "bash": HOOK_COMMAND + "copilot-cli",
                    "powershell": HOOK_COMMAND + "copilot-cli",
                    "timeoutSec": 30,
                },
                {"version": 1},
            ),
            tool_key="toolName",
            input_key="toolArgs",
            asks=True,
            heeds_code=False,
        ),
        Adapter(
            "opencode",
            "https://opencode.ai/docs/plugins; anomalyco/opencode, packages/plugin/src/index.ts",
            _OPENCODE,
            Settings(
                ".opencode/plugins/safeai-git.js", ".config/opencode/plugins/safeai-git.js", text=PLUGIN
            ),
            tool_key="tool",
            input_key="args",
        ),
    )
}
"""By name."""
