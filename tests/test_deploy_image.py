"""What the image has to do, in a box with its restrictions: uid 1000, no capability, no new privileges, a read-only root.

An engine tries the image itself (deploy/docker/try-image); bubblewrap makes the same box around this environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools_cli import PATIENCE
from tools_deploy import DEPLOY, program

SCRIPT = """\
set -eu
grep -E '^(CapEff|CapBnd|NoNewPrivs|Uid)' /proc/self/status
! touch /written 2>/dev/null
cd "$SAFEAI_DATA_DIR"
for _ in 1 2; do
    [ -f keys/ed25519.default.sk ] || safeai keys generate --key-id default
done
sha256sum keys/ed25519.default.sk
serve() {
    safeai serve 2>>lines &
    until %(healthy)s 2>/dev/null; do kill -0 $!; done
}
serve
sh %(inside)s
kill -TERM $!
wait $!
serve
safeai audit --verify
kill -TERM $!
wait $!
sha256sum keys/ed25519.default.sk
echo all of it held
"""


def health_check() -> str:
    """The Dockerfile's, as a shell would say it."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    found = re.search(r'CMD \["python3", "-I", "-c", "(.*)"\]\nCMD', text)
    assert found is not None
    return f'python3 -I -c "{found[1]}"'


def test_a_box_like_the_image_can_do_what_the_image_has_to(tmp_path: Path) -> None:
    bwrap = program("bwrap")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    here, mine = str(DEPLOY.parent), str(Path(sys.prefix).resolve())
    box = [
        bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--ro-bind", here, here,
        "--ro-bind", mine, mine, "--bind", str(data), str(data), "--unshare-user", "--uid", "1000", "--gid", "1000",
        "--unshare-net", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
        "--setenv", "PATH", f"{sys.prefix}/bin:{os.defpath}", "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp",
        "--setenv", "LANG", "C.UTF-8", "--setenv", "SAFEAI_DATA_DIR", str(data), "--setenv", "SAFEAI_CONFIG_DIR", str(data),
    ]  # fmt: skip
    if subprocess.run([*box, "true"], capture_output=True, timeout=PATIENCE).returncode != 0:
        pytest.skip("no user namespace can be had here")
    if (
        subprocess.run([*box[:-1], str(data), "--disable-userns", "true"], capture_output=True).returncode
        == 0
    ):
        box.append("--disable-userns")  # as an engine's seccomp profile does
    script = SCRIPT % {"healthy": health_check(), "inside": DEPLOY / "docker" / "try-inside"}
    done = subprocess.run([*box, "sh", "-c", script], capture_output=True, timeout=PATIENCE, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "CapEff:\t0000000000000000" in said
    assert "CapBnd:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert "Uid:\t1000" in said
    assert len(set(re.findall(r"^[0-9a-f]{64} .*ed25519", said, re.MULTILINE))) == 1
    assert re.search(
        r"^ok +sandbox: level [BC]" if "--disable-userns" in box else "sandbox: level", said, re.MULTILINE
    )
    assert "a trusted verdict allows it" in said
    assert said.count("CONSISTENT") == 1
    assert done.stdout.endswith("all of it held\n")
