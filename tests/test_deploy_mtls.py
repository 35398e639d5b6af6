"""Client certificates: by the Governor's own TLS, and by nginx in front of it with the configuration that is shipped."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tools_cli import PATIENCE, free_port
from tools_deploy import DEPLOY, program
from tools_governor import Answer, Governor

HOST = "localhost"
RULES = f"""\
certificates:
  - {{name: ci, match: {{san: "ci.{HOST}"}}, scopes: [verdicts:write, log:read]}}
"""


def certificates(folder: Path, *clients: str, days: int = 2) -> Path:
    """An authority of its own, a server's certificate and some clients'."""
    done = subprocess.run(
        [DEPLOY / "mtls" / "make-certificates", folder, HOST, *clients],
        env=dict(os.environ) | {"DAYS": str(days)}, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "ours", "ci", "stranger")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority, whose clients have the same names."""
    return certificates(tmp_path_factory.mktemp("tls") / "theirs", "ci")


def ask(
    port: int,
    path: str,
    ca: Path,
    client: tuple[Path, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """A request over TLS, with or without a client's certificate."""
    context = ssl.create_default_context(cafile=ca / "ca.pem")
    if client is not None:
        context.load_cert_chain(client[0] / f"{client[1]}.pem", client[0] / f"{client[1]}.key")
    connection = http.client.HTTPSConnection(HOST, port, timeout=PATIENCE, context=context)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return Answer(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        )
    finally:
        connection.close()


def settings(folder: Path) -> dict[str, str]:
    rules = folder / "certificates.yaml"
    rules.write_text(RULES)
    return {"SAFEAI_CERTIFICATE_RULES": str(rules), "SAFEAI_HOST": "127.0.0.1"}


@pytest.fixture(scope="module")
def own_tls(tmp_path_factory: pytest.TempPathFactory, ours: Path) -> Iterator[Governor]:
    folder = tmp_path_factory.mktemp("own")
    more = {
        "SAFEAI_TLS_CERT": str(ours / "server.pem"),
        "SAFEAI_TLS_KEY": str(ours / "server.key"),
        "SAFEAI_TLS_CLIENT_CA": str(ours / "ca.pem"),
    }
    with Governor(folder / "g", **settings(folder), **more) as running:
        yield running


TILE = "/log/tile/0/000.p/1"


def test_own_tls_knows_its_clients(own_tls: Governor, ours: Path) -> None:
    assert own_tls.url.startswith("https://")
    assert ask(own_tls.port, TILE, ours, (ours, "ci")).status == 200
    assert ask(own_tls.port, "/v1/entries/0", ours, (ours, "ci")).word == "forbidden"
    assert ask(own_tls.port, TILE, ours, (ours, "stranger")).word == "not-authenticated"
    assert ask(own_tls.port, TILE, ours).word == "not-authenticated"
    assert ask(own_tls.port, "/livez", ours).status == 200
    token = {"Authorization": f"Bearer {own_tls.token('log:read')}"}
    assert ask(own_tls.port, TILE, ours, headers=token).status == 200


def test_own_tls_refuses_clients_of_another_authority(own_tls: Governor, ours: Path, theirs: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(own_tls.port, "/livez", ours, (theirs, "ci"))


def test_own_tls_takes_no_certificate_out_of_a_header(own_tls: Governor, ours: Path) -> None:
    headers = {"ssl-client-cert": quote((ours / "ci.pem").read_text()), "ssl-client-verify": "SUCCESS"}
    assert ask(own_tls.port, TILE, ours, headers=headers).word == "not-authenticated"


def test_own_tls_speaks_no_old_version(own_tls: Governor) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", own_tls.port), timeout=PATIENCE) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)


class Nginx:
    """A real nginx with the template that is shipped."""

    def __init__(self, folder: Path, governor: Governor, tls: Path, port: int) -> None:
        text = (DEPLOY / "nginx" / "safeai.conf.template").read_text()
        values = {
            "LISTEN": f"127.0.0.1:{port}", "SERVER_NAME": HOST, "UPSTREAM": f"127.0.0.1:{governor.port}",
            "CERTIFICATES": str(tls),
        }  # fmt: skip
        for name, value in values.items():
            text = text.replace("${" + name + "}", value)
        assert "${" not in text
        places = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user}daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{text}\n}}\n"
        )
        self.port = port
        self.said = folder / "said"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=said
            )

    def wait(self) -> None:
        for _ in range(int(PATIENCE * 20)):
            if self.process.poll() is not None:
                raise AssertionError(self.said.read_text())
            with socket.socket() as probe:
                probe.settimeout(0.05)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise AssertionError("nginx does not listen")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    folder = tmp_path_factory.mktemp("behind")
    with Governor(folder / "g", **settings(folder), SAFEAI_TRUSTED_PROXIES="127.0.0.1/32") as running:
        yield running


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, behind: Governor, ours: Path) -> Iterator[Nginx]:
    program("nginx")
    running = Nginx(tmp_path_factory.mktemp("nginx"), behind, ours, free_port())
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE)


def test_nginx_passes_its_clients_on(nginx: Nginx, ours: Path) -> None:
    assert ask(nginx.port, TILE, ours, (ours, "ci")).status == 200
    assert ask(nginx.port, TILE, ours, (ours, "stranger")).word == "not-authenticated"
    without = ask(nginx.port, TILE, ours)
    assert without.status == 400
    assert b"No required SSL certificate was sent" in without.body


def test_nginx_refuses_clients_of_another_authority(nginx: Nginx, ours: Path, theirs: Path) -> None:
    answer = ask(nginx.port, TILE, ours, (theirs, "ci"))
    assert answer.status == 400
    assert b"SSL certificate error" in answer.body


def test_what_a_client_writes_under_those_names_ends_at_nginx(nginx: Nginx, ours: Path) -> None:
    forged = {"ssl-client-cert": quote((ours / "ci.pem").read_text()), "ssl-client-verify": "SUCCESS"}
    assert ask(nginx.port, TILE, ours, (ours, "stranger"), forged).word == "not-authenticated"


def test_a_trailer_names_no_client(behind: Governor, ours: Path) -> None:
    """An ingress sets the header fields, and may hand on what a client sends behind the body."""
    forged = f"ssl-client-cert: {quote((ours / 'ci.pem').read_text())}\r\nssl-client-verify: SUCCESS\r\n"
    head = f"GET {TILE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    statuses = []
    for text in (f"{head}{forged}\r\n", f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n{forged}\r\n"):
        with socket.create_connection(("127.0.0.1", behind.port), timeout=PATIENCE) as connection:
            connection.sendall(text.encode())
            statuses.append(connection.recv(12))
    assert statuses == [b"HTTP/1.1 200", b"HTTP/1.1 401"]


def test_a_forged_header_straight_to_the_pod_is_refused(tmp_path: Path, ours: Path) -> None:
    forged = {"ssl-client-cert": quote((ours / "ci.pem").read_text()), "ssl-client-verify": "SUCCESS"}
    more = settings(tmp_path) | {"SAFEAI_TRUSTED_PROXIES": "10.0.0.0/8"}
    with Governor(tmp_path / "g", **more) as governor:
        answer = governor.ask("GET", TILE, token=None, headers=forged)
        assert (answer.status, answer.word) == (401, "not-authenticated")
        both = governor.ask("GET", TILE, headers=forged)
        assert both.status == 401  # not even beside a token that is good: whoever sends it is up to something


def test_an_expired_certificate_is_refused(tmp_path: Path, behind: Governor) -> None:
    """The authority's own key is thrown away by the script, so a certificate that is over is made by hand here."""
    program("nginx")
    tls = certificates(tmp_path / "tls", "ci")
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tls)  # noqa: E731
    run(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-subj",
        "/CN=ca",
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca2.pem",
    )
    run(
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-subj",
        f"/CN=ci.{HOST}",
        "-keyout",
        "old.key",
        "-out",
        "old.csr",
    )
    (tls / "old.ext").write_text(f"subjectAltName=DNS:ci.{HOST}\nextendedKeyUsage=clientAuth\n")
    (tls / "index").write_text("")
    (tls / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    run("ca", "-batch", "-config", "ca.cnf", "-cert", "ca2.pem", "-keyfile", "ca.key", "-in", "old.csr", "-out", "old.pem",
        "-notext", "-extfile", "old.ext", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")  # fmt: skip
    shutil.copy(tls / "ca.pem", tls / "server-ca.pem")
    (tls / "ca.pem").write_bytes((tls / "ca.pem").read_bytes() + (tls / "ca2.pem").read_bytes())
    folder = tmp_path / "nginx"
    folder.mkdir()
    running = Nginx(folder, behind, tls, free_port())
    try:
        running.wait()
        answer = ask(running.port, TILE, tls, (tls, "old"))
        assert answer.status == 400
        assert b"SSL certificate error" in answer.body
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE)
