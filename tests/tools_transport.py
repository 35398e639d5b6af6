"""Git servers on loopback: a real sshd, and git's http-backend behind a small web server. One process a connection."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools_cli import KNOWN, PATIENCE

BACKEND = Path("/usr/lib/git-core/git-http-backend")
REMOTE_USER = "wanda"


def sshd() -> str | None:
    """Where sshd is; ``None`` where there is none, or none that does anything for this user."""
    folders = "/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin"
    return shutil.which("sshd", path=folders) if KNOWN else None


@contextmanager
def ssh_server(folder: Path) -> Iterator[str]:
    """Serve ssh on loopback for whoever runs this; the value is a command for GIT_SSH_COMMAND, with its port."""
    program = sshd()
    assert program is not None
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    shutil.copyfile(folder / "user.pub", folder / "authorized")
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\nPrintMotd no\n"
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    listening = socket.create_server(("127.0.0.1", 0))
    running: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            command = [program, "-i", "-e", "-f", str(folder / "sshd_config")]
            with connection, open(folder / "sshd.log", "ab") as log:
                running.append(subprocess.Popen(command, stdin=connection, stdout=connection, stderr=log))

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    client = (
        f"ssh -F none -p {port} -i {shlex.quote(str(folder / 'user'))} -o IdentitiesOnly=yes -o BatchMode=yes "
        f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -l {getpass.getuser()}"
    )
    try:
        yield client
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for one in running:
            one.wait(timeout=PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    """CGI (RFC 3875) for one program, as much of it as git needs."""

    root: Path
    environment: dict[str, str]

    def log_message(self, *args: object) -> None:
        """Nothing on the tests' output."""

    def do_GET(self) -> None:
        self._run(b"")

    def do_POST(self) -> None:
        self._run(self.rfile.read(int(self.headers["Content-Length"])))

    def _run(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        told = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": REMOTE_USER,
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run([BACKEND], input=body, capture_output=True, env=self.environment | told)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def http_server(root: Path, environment: dict[str, str]) -> Iterator[str]:
    """Serve the repositories of a folder over smart HTTP; the value is the URL above them."""
    handler = type("Handler", (_Handler,), {"root": root, "environment": environment})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
