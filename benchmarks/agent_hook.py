"""One PreToolUse call of Claude Code beside `pre-commit run` with one no-op hook, in turns, as a ratio of medians.

python -m benchmarks.agent_hook [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import interleaved, run
from benchmarks.places import NO_OP


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SAFEAI_"))}
        environment = kept | {"HOME": scratch, "XDG_CONFIG_HOME": scratch, "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{name}_NAME": "Bench", f"GIT_{name}_EMAIL": "bench@example.com"}
        folder = Path(scratch) / "repository"
        (folder / "src").mkdir(parents=True)
        (folder / ".safeai").mkdir()
        run(folder, environment, "git", "init", "-q", "-b", "main")
        (folder / ".pre-commit-config.yaml").write_text(NO_OP)
        (folder / ".safeai/policy.yaml").write_text("allow_paths: [src/]\nautonomy_tier: beta\n")
        for number in range(200):
            (folder / f"src/file{number}.py").write_text("x = 1\n" * 100)
        run(folder, environment, "git", "add", "-A")
        run(folder, environment, "git", "commit", "-q", "-m", "start")
        (folder / "src/file0.py").write_text("x = 2\n" * 100)
        run(folder, environment, "git", "add", "-A")
        given = {"file_path": str(folder / "other.py"), "content": "x = 1\n"}
        call = {
            "cwd": str(folder),
            "hook_event_name": "PreToolUse",
            "tool_name": "Write",
            "tool_input": given,
        }
        payload = json.dumps(call).encode()
        hook = [str(Path(sys.executable).parent / "safeai-git"), "agent", "hook", "claude-code"]

        def ours() -> None:
            done = subprocess.run(
                hook, cwd=folder, env=environment, input=payload, capture_output=True, check=True
            )
            if b'"deny"' not in done.stdout:
                raise SystemExit(f"the edit was not refused: {done.stdout!r}")

        reference = str(Path(sys.executable).parent / "pre-commit")
        mine, theirs = interleaved(rounds, ours, lambda: run(folder, environment, reference, "run"))
    median, other = statistics.median(mine), statistics.median(theirs)
    spread = f"{min(mine) / other:.2f}-{max(mine) / other:.2f}"
    print(
        f"PreToolUse {median * 1000:.0f} ms, pre-commit run {other * 1000:.0f} ms, "
        f"ratio {median / other:.2f} ({spread})"
    )


if __name__ == "__main__":
    main()
