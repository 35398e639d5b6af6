"""What the tests of the deployment share: rendered manifests, and the variables that they set."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
OVERLAYS = ("single", "ha")


def program(name: str) -> str:
    """A program of the development environment or of the machine; skips where it is not to be had."""
    beside = Path(sys.executable).parent / name
    found = (
        str(beside) if beside.exists() else shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin:/bin")
    )
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """The resources of an overlay, as they would be applied."""
    done = subprocess.run(
        [program("kubectl"), "kustomize", str(DEPLOY / "kubernetes" / "overlays" / overlay)],
        capture_output=True,
        check=True,
    )
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


def one(overlay: str, kind: str, name: str = "safe-ai-governor") -> dict[str, Any]:
    """One resource of an overlay."""
    (found,) = [row for row in rendered(overlay) if row["kind"] == kind and row["metadata"]["name"] == name]
    return found


def containers(overlay: str) -> list[dict[str, Any]]:
    """The containers of the Deployment, those that run first included."""
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def compose() -> dict[str, Any]:
    """The Compose file."""
    data: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return data


def variables_of_manifests() -> set[str]:
    """Every variable of ours that a manifest, the Compose file or the image sets."""
    found = {
        entry["name"] for overlay in OVERLAYS for box in containers(overlay) for entry in box.get("env", [])
    }
    found |= {name for service in compose()["services"].values() for name in service.get("environment", {})}
    found |= set(re.findall(r"\bSAFEAI_[A-Z_]+\b", (DEPLOY / "docker" / "Dockerfile").read_text()))
    return {name for name in found if name.startswith("SAFEAI_")}
