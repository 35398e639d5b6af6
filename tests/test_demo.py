"""The demo, as `make demo` runs it: it has to end well and to show what it promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "scripts/demo"


def test_the_demo_shows_the_main_job_end_to_end(tmp_path: Path) -> None:
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        pytest.skip("the demo replays checks, which needs Linux with bubblewrap")
    done = subprocess.run(
        ["/bin/sh", str(DEMO), str(Path(sys.executable).parent)],
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    for line in (
        "made a key: ",
        "hook pre-push: installed",
        "check unit-tests: passed (exit code 0",
        "deny   config/keys/prod.pem [denied-path]",
        "deny   src/data.py [edit-too-large]",
        "why: the check 'unit-tests' failed: exit code 1",
        "review .github/workflows/ci.yml [protected-path]",
        "Add a workflow [claude-code (ai)] the verdict asks for review; 0 of 1 approvals are there",
        "approved by maria@example.com",
        "Tidy up [claude-code (ai)] no verdict is there for this commit",
        "does not hold",
        "That was it",
    ):
        assert line in printed, (line, printed)
    assert printed.count("(exit code 0)") >= 2
    assert list(tmp_path.iterdir()) == [], "it cleans up after itself"
