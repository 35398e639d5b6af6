"""The server of the Model Context Protocol, asked by the official SDK's client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo

TOOLS = ("check", "explain", "scope", "status")


def test_an_agent_asks_before_it_commits(governed: Repo) -> None:
    mcp = pytest.importorskip("mcp", reason="the extra [mcp] is not installed")
    governed.write("other/x.py", "x = 1\n")
    governed.git("add", "-A")
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "safeai_git", "mcp"],
        env=governed.environment,
        cwd=str(governed.path),
    )

    async def ask() -> dict[str, Any]:
        async with mcp.Client(server) as client:
            names = sorted(tool.name for tool in (await client.list_tools()).tools)
            said: dict[str, Any] = {"names": names}
            for name, given in (
                ("check", {"agent": "codex"}),
                ("explain", {"path": "src/a.py"}),
                ("scope", {}),
                ("status", {}),
            ):
                said[name] = await client.call_tool(name, given)
            said["wrong"] = await client.call_tool("check", {"revisions": "nothing..nowhere"})
            said["again"] = await client.call_tool("explain", {"path": "other/x.py"})
            return said

    said = asyncio.run(ask())
    assert said["names"] == sorted(TOOLS)
    told = {name: json.loads(said[name].content[0].text) for name in (*TOOLS, "again")}
    assert told["check"]["decision"] == "deny"
    assert told["check"]["judgements"][0]["findings"][0]["path"] == "other/x.py"
    assert told["explain"]["layers"][0]["outcome"] == "allowed"
    assert told["again"]["layers"][0]["outcome"] != "allowed"
    assert told["scope"]["layers"]
    assert told["status"]
    assert said["wrong"].is_error
    assert "unknown revision" in said["wrong"].content[0].text
    assert not governed.git("notes", "--ref=safeai", "list").strip()


def test_without_the_sdk_it_says_what_to_install(governed: Repo, tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp/__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'mcp'\", name='mcp')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "safeai_git", "mcp"],
        cwd=governed.path,
        env=governed.environment | {"PYTHONPATH": str(tmp_path)},
        input="",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'safeai-git[mcp]'" in done.stderr
    assert not done.stdout
