"""The OpenAPI document, tried by somebody else's tool: whatever fits it, and much that does not, is answered as it says."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools_cli import PATIENCE
from tools_deploy import program
from tools_governor import Governor

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


HOOKS = """
import schemathesis


@schemathesis.serializer("application/x-git-bundle")
def bundle(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
"""


@pytest.fixture(scope="module")
def governor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    with Governor(tmp_path_factory.mktemp("governor"), SAFEAI_REQUESTS_PER_MINUTE="0") as running:
        yield running


@pytest.mark.parametrize("token", ["with", "without"])
def test_schemathesis_finds_nothing(governor: Governor, token: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    authorized = ["--header", f"Authorization: Bearer {governor.token()}"] if token == "with" else []
    done = subprocess.run(
        [
            program("schemathesis"), "run", f"{governor.url}/openapi.json", "--checks", CHECKS, "--max-examples", "12",
            "--seed", "7", "--phases", "examples,fuzzing", "--generation-database", "none", *authorized,
        ],
        cwd=tmp_path, env=dict(os.environ) | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}, capture_output=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()[-6000:]
    selected = re.search(rb"Selected: (\d+)/\1\b", done.stdout)
    assert selected is not None
    assert b"Tested: " + selected[1] in done.stdout
    assert governor.ask("GET", "/readyz", token=None).status == 200
    assert not [line for line in governor.lines if line.get("event") == "a fault of the program"]
