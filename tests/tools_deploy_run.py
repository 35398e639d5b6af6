"""``make deploy-test``: the deployment as far as this machine allows, and in the end a list of what ran and what did not.

Exit 0: all that could be tried held. 1: something did not hold. What was skipped is named with its reason; so is what no
machine of this project can try.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
import xml.etree.ElementTree as ET  # of a file that pytest wrote a moment ago
from pathlib import Path

TOP = Path(__file__).parent.parent
BUILD = TOP / "build"
NOT_HERE = (
    (
        "a Kubernetes cluster",
        "none is to be had; the manifests are held against its schemas and checkov's rules",
    ),
    (
        "Compose's other images",
        "they are pulled from a registry; the file is held against its schema and our rules",
    ),
    ("Grafana itself", "not packaged; every query of its dashboards is asked of a Prometheus"),
)
SKIPPED = 77
"""What a script says that could not try anything."""

Line = tuple[str, str, str]
"""What, what became of it, and why or how long."""


def checkov() -> str:
    """Install checkov in an environment of its own; why not, if it cannot be."""
    lock, place = TOP / "requirements" / "checkov.lock", BUILD / "checkov"
    made = place / ".lock"
    if made.exists() and made.read_bytes() == lock.read_bytes():
        return ""
    print("installing requirements/checkov.lock in build/checkov", file=sys.stderr)
    venv.create(place, clear=True, with_pip=True)
    done = subprocess.run(
        [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
         "--requirement", lock],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode != 0:
        (place / "bin" / "checkov").unlink(missing_ok=True)
        return "it cannot be installed: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    made.write_bytes(lock.read_bytes())
    return ""


def tests(arguments: list[str]) -> tuple[bool, list[Line]]:
    """Run tests/test_deploy_*.py; whether they held, and a line for each file and each skipped test."""
    report = BUILD / "deploy-test.xml"
    report.unlink(missing_ok=True)
    files = sorted(str(one) for one in (TOP / "tests").glob("test_deploy_*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", f"--junitxml={report}", *files, *arguments], cwd=TOP
    )
    if not report.exists():
        return False, []
    lines: list[Line] = []
    counted: dict[str, list[float]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").rpartition("tests.")[2] + ".py"
        if (skipped := case.find("skipped")) is not None:
            lines.append((f"{file}::{case.get('name')}", "SKIPPED", skipped.get("message", "")))
        else:
            counted.setdefault(file, []).append(float(case.get("time", 0)))
    ran = [(file, "ran", f"{len(times)}, {sum(times):.0f} s") for file, times in counted.items()]
    return done.returncode == 0, ran + lines


def image() -> tuple[bool, Line]:
    """Build and run the image."""
    began, said = time.monotonic(), ""
    process = subprocess.Popen([TOP / "deploy" / "docker" / "try-image"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        for said in lines:
            print(said, end="", file=sys.stderr)
    code = process.wait()
    if code == SKIPPED:
        return True, ("deploy/docker/try-image", "SKIPPED", said.strip().partition("skipped: ")[2])
    took = f"{time.monotonic() - began:.0f} s"
    return code == 0, ("deploy/docker/try-image", "FAILED" if code else "ran", took)


def main() -> int:
    BUILD.mkdir(exist_ok=True)
    missing = checkov()
    tested, lines = tests(sys.argv[1:])
    if missing:
        lines.append(("checkov", "SKIPPED", missing))
    built, line = image()
    lines += [line, *((what, "NOT TRIED", why) for what, why in NOT_HERE)]
    print("\nThe deployment, on this machine:")
    for what, became, why in lines:
        print(f"  {became:<9} {what}: {why}")
    if not tested:
        print("  FAILED    some of the tests: see above")
    return 0 if tested and built else 1


if __name__ == "__main__":
    sys.exit(main())
