"""Public keys, key files, and what a private key file must be before we sign with it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from tools_cli import SSH_KEYGEN, needs_ssh_keygen

from safeai_git.core.errors import FormatError, KeyUnusable, StorageError, WrongUse
from safeai_git.core.publickey import PublicKey, format_openssh, is_key_id, parse_openssh
from safeai_git.keys import file, openssh
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.keyfiles import MAX_BYTES, NewFile, public_path, secret_path, write_new
from safeai_git.keys.signer import load_signer

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PublicKey(PRIVATE.public_key().public_bytes_raw())


def run(*arguments: str | Path, **more: object) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True, **more).stdout  # type: ignore[call-overload, no-any-return]


def place(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def plain(
    private: Ed25519PrivateKey | rsa.RSAPrivateKey = PRIVATE, form: PrivateFormat = PrivateFormat.PKCS8
) -> bytes:
    return private.private_bytes(Encoding.PEM, form, NoEncryption())


# Public keys


@needs_ssh_keygen
def test_fingerprint_and_line_are_those_of_openssh(tmp_path: Path) -> None:
    made = file.generate(tmp_path, "default")
    fingerprint = run(str(SSH_KEYGEN), "-lf", made.public_file).split()
    assert fingerprint == ["256", made.public.key_id, "default", "(ED25519)"]
    run(str(SSH_KEYGEN), "-q", "-t", "ed25519", "-N", "", "-C", "anna's laptop", "-f", tmp_path / "theirs")
    line = (tmp_path / "theirs.pub").read_bytes().removesuffix(b"\n")
    public, comment = parse_openssh(line)
    assert comment == "anna's laptop"
    assert public.key_id in run(str(SSH_KEYGEN), "-lf", tmp_path / "theirs.pub")
    assert load_signer(tmp_path / "theirs").public == public


RAW_KEYS = st.binary(min_size=32, max_size=32).map(
    lambda seed: Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
)


@given(RAW_KEYS, st.text(st.characters(categories=["L", "N", "P"])))
def test_openssh_lines_format_and_parse(raw: bytes, comment: str) -> None:
    line = format_openssh(PublicKey(raw), comment)
    assert parse_openssh(line) == (PublicKey(raw), comment)
    assert PublicKey.from_blob(PublicKey(raw).blob) == PublicKey(raw)
    assert is_key_id(PublicKey(raw).key_id)


@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda tail: format_openssh(PUBLIC) + tail))
def test_an_openssh_line_that_is_not_written_the_one_way_is_refused(line: bytes) -> None:
    try:
        public, comment = parse_openssh(line)
    except FormatError:
        return
    assert format_openssh(public, comment) == line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ssh-ed25519",
        b"ssh-ed25519 AAAA",
        b"ssh-ed25519 !",
        b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
        format_openssh(PUBLIC).replace(b" ", b"  "),
        format_openssh(PUBLIC) + b" ",
        format_openssh(PUBLIC) + b"\n",
        format_openssh(PUBLIC) + b" a\nb",
        format_openssh(PUBLIC) + b" \xff",
        format_openssh(PUBLIC)[:-4],
        format_openssh(PUBLIC) + b"AAAA",
    ],
    ids=str,
)
def test_what_is_not_an_openssh_ed25519_line_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_openssh(line)


@pytest.mark.parametrize("comment", ["a\nb", " a", "a ", "\x1b[31m", "\u202e"])
def test_a_comment_that_would_break_the_line_is_refused(comment: str) -> None:
    with pytest.raises(FormatError, match="comment"):
        format_openssh(PUBLIC, comment)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_has_32_bytes(length: int) -> None:
    with pytest.raises(FormatError, match="32 bytes"):
        PublicKey(bytes([9]) * length)


P = 2**255 - 19
ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
TORSION = [0, 1, P - 1, ORDER_8, P - ORDER_8]
ENCODINGS = [(y | sign << 255).to_bytes(32, "little") for y in TORSION for sign in (0, 1)]


@pytest.mark.parametrize("y", TORSION)
def test_B87_a_key_for_which_anybody_can_sign_is_refused(y: int) -> None:
    raw = y.to_bytes(32, "little")
    # With S = 0 the equation is R = -kA, and A has at most eight multiples: no private key is needed.
    forged = any(verify(raw, point + bytes(32), b"message %d" % n) for n in range(64) for point in ENCODINGS)
    assert forged
    for sign in (0, 1):
        with pytest.raises(FormatError, match="anybody can sign"):
            PublicKey((y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("y", [P, P + 1, P + 3, 2**255 - 1])
def test_a_second_spelling_of_a_key_is_refused(y: int) -> None:
    with pytest.raises(FormatError, match="not reduced"):
        PublicKey(y.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "text",
    ["", "SHA256:", PUBLIC.key_id[7:], PUBLIC.key_id + "=", "SHA256:" + "A" * 42, "SHA256:" + "A" * 42 + "B"],
)
def test_what_is_not_a_fingerprint_is_seen(text: str) -> None:
    assert not is_key_id(text)


# Signatures


def test_rfc_8032_section_7_1_test_3() -> None:
    secret = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    public = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    expected = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    signer = Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(secret))
    assert signer.public.raw == public
    assert signer.sign(b"\xaf\x82") == expected
    assert verify(public, expected, b"\xaf\x82")


@given(st.binary(), st.integers(0, 511))
def test_one_wrong_bit_and_the_signature_does_not_hold(message: bytes, bit: int) -> None:
    signature = PRIVATE.sign(message)
    wrong = (int.from_bytes(signature, "little") ^ 1 << bit).to_bytes(64, "little")
    assert verify(PUBLIC.raw, signature, message)
    assert not verify(PUBLIC.raw, wrong, message)
    assert not verify(PUBLIC.raw, signature, message + b"x")


def test_a_signature_has_one_form_only() -> None:
    # RFC 8032 §5.1.7: S + L would hold too if its range were not checked.
    signature = PRIVATE.sign(b"m")
    order = 2**252 + 27742317777372353535851937790883648493
    twin = int.from_bytes(signature[32:], "little") + order
    assert not verify(PUBLIC.raw, signature[:32] + twin.to_bytes(32, "little"), b"m")


@pytest.mark.parametrize(
    ("public", "signature"),
    [(b"", bytes(64)), (bytes(31), bytes(64)), (PUBLIC.raw, b""), (PUBLIC.raw, bytes(65))],
)
def test_bytes_that_are_no_key_or_no_signature_do_not_verify(public: bytes, signature: bytes) -> None:
    assert not verify(public, signature, b"m")


def test_a_signer_is_not_made_of_halves_that_do_not_belong_together() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(KeyUnusable, match="does not belong to the public key SHA256:"):
        Ed25519Signer(PUBLIC, other)
    assert verify(PUBLIC.raw, Ed25519Signer(PUBLIC, PRIVATE).sign(b"m"), b"m")


def test_a_signer_does_not_show_its_secret() -> None:
    shown = repr(Ed25519Signer.of(PRIVATE))
    assert "private" not in shown.lower()
    assert repr(PUBLIC.raw) in shown


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return set(run(sys.executable, "-c", code).split())


def test_verifying_loads_no_more_of_cryptography_than_the_primitive() -> None:
    for module in ("safeai_git.keys.ed25519", "safeai_git.keys.keyring", "safeai_git.keys.seal"):
        assert "cryptography.hazmat.primitives.serialization" not in loaded_by(module)
    assert not [name for name in loaded_by("safeai_git.core.envelope") if name.startswith("cryptography")]


# Making key files


@pytest.mark.parametrize(
    "passphrase", [None, b"correct horse", "schl\u00fcssel".encode(), b"x" * file.MAX_PASSPHRASE]
)
def test_a_generated_key_loads_and_signs(tmp_path: Path, passphrase: bytes | None) -> None:
    made = file.generate(tmp_path / "keys", "default", passphrase)
    assert made.secret == tmp_path / "keys/ed25519.default.sk"
    assert made.public_file == tmp_path / "keys/ed25519.default.pub"
    assert parse_openssh(made.public_file.read_bytes().removesuffix(b"\n")) == (made.public, "default")
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "ed25519.default.pub",
        "ed25519.default.sk",
    ]
    for signer in (file.load(made.secret, passphrase), load_signer(made.secret, passphrase)):
        assert signer.key_id == made.public.key_id
        assert verify(made.public.raw, signer.sign(b"m"), b"m")


@needs_posix
def test_no_umask_opens_a_private_key_to_others(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; os.umask(0); from safeai_git.keys import file;"
        "file.generate(pathlib.Path(sys.argv[1]), 'default', b'pw')"
    )
    run(sys.executable, "-c", code, tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys/ed25519.default.sk").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_B83_every_generated_key_is_another(tmp_path: Path) -> None:
    assert len({file.generate(tmp_path, f"k{n}").public for n in range(5)}) == 5


@needs_openssl
def test_openssl_reads_our_keys(tmp_path: Path) -> None:
    for name, passphrase in (("plain", None), ("sealed", b"correct horse")):
        made = file.generate(tmp_path, name, passphrase)
        der = subprocess.run(
            [
                str(OPENSSL),
                "pkey",
                "-in",
                made.secret,
                "-passin",
                "pass:correct horse",
                "-pubout",
                "-outform",
                "DER",
            ],
            check=True,
            capture_output=True,
        ).stdout
        assert der.endswith(made.public.raw)
    assert "INTEGER           :0927C0" in run(str(OPENSSL), "asn1parse", "-in", made.secret)  # 600,000 rounds


@needs_openssl
@pytest.mark.parametrize("options", [(), ("-scrypt",), ("-iter", "1000"), ("-v2", "aes-128-cbc")])
def test_we_read_openssl_s_keys(tmp_path: Path, options: tuple[str, ...]) -> None:
    der = PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    sealed = subprocess.run(
        [str(OPENSSL), "pkcs8", "-topk8", "-inform", "DER", "-passout", "pass:pw", *options],
        input=der,
        check=True,
        capture_output=True,
    ).stdout
    assert file.load(place(tmp_path, sealed), b"pw").public == PUBLIC


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\n", "\u00e9", "x" * 65, "a\0"]
)
def test_a_key_s_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    for make in (secret_path, public_path, file.generate):
        with pytest.raises(WrongUse, match="cannot be called"):
            make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["default", "a.b", "-", "_", "x" * 64, "2026-01"])
def test_ordinary_names_are_taken(tmp_path: Path, name: str) -> None:
    assert secret_path(tmp_path, name).name == f"ed25519.{name}.sk"
    assert public_path(tmp_path, name).name == f"ed25519.{name}.pub"


@pytest.mark.parametrize("passphrase", [b"", b"x" * (file.MAX_PASSPHRASE + 1)])
def test_a_passphrase_that_could_not_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, passphrase: bytes
) -> None:
    with pytest.raises(KeyUnusable, match="a passphrase has 1 to"):
        file.generate(tmp_path, "default", passphrase)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", ["ed25519.default.sk", "ed25519.default.pub"])
def test_a_key_never_takes_the_place_of_another_file(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(StorageError, match="is there already") as caught:
        file.generate(tmp_path, "default")
    assert "--key-id" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_a_dangling_link_in_the_place_of_a_key_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ed25519.default.sk").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is there already"):
        file.generate(tmp_path, "default")
    assert not (tmp_path / "elsewhere").exists()


def test_of_many_who_make_the_same_key_one_succeeds(tmp_path: Path) -> None:
    def attempt(_: int) -> PublicKey | None:
        try:
            return file.generate(tmp_path, "default").public
        except StorageError:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [public for public in pool.map(attempt, range(16)) if public is not None]
    assert len(made) == 1
    assert file.load(tmp_path / "ed25519.default.sk").public == made[0]


@needs_posix
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    # A limit on the size of files is the full disk that can be had anywhere; the second file breaks it.
    code = """if True:
        import pathlib, resource, signal, sys
        from safeai_git.core.errors import StorageError
        from safeai_git.keys.keyfiles import NewFile, write_new
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        folder = pathlib.Path(sys.argv[1])
        try:
            write_new([NewFile(folder / "a", b"small", 0o600), NewFile(folder / "b", bytes(200), 0o600)])
        except StorageError as error:
            print(error.message)
    """
    printed = run(sys.executable, "-c", code, tmp_path)
    assert "b could not be written: File too large" in printed
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_as_asked(tmp_path: Path) -> None:
    write_new([NewFile(tmp_path / "a", b"1", 0o600), NewFile(tmp_path / "b" / "c", b"2", 0o644)])
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "b/c").read_bytes() == b"2"


# Reading key files


def refused(path: Path, passphrase: bytes | None = None) -> str:
    with pytest.raises(KeyUnusable) as caught:
        file.load(path, passphrase)
    return caught.value.message


def test_a_missing_key_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="there is no private key") as caught:
        file.load(tmp_path / "none")
    assert "keys generate" in caught.value.hint
    assert "cannot be read" in refused(tmp_path / "a\0b")


@needs_posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o602, 0o777])
def test_B81_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = place(tmp_path, plain(), mode)
    assert f"open to others (mode {mode:04o})" in refused(path)
    path.chmod(0o400)
    assert file.load(path).public == PUBLIC


@needs_posix
def test_B81_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = Path("/etc/passwd")
    if os.geteuid() == 0:
        path = place(tmp_path, plain())
        os.chown(path, 12345, -1)
    assert "belongs to user id" in refused(path)


@needs_posix
def test_a_link_a_folder_and_a_pipe_are_no_keys(tmp_path: Path) -> None:
    target = place(tmp_path, plain())
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    os.mkfifo(pipe, 0o600)
    assert "is a symbolic link" in refused(link)
    assert "not a plain file" in refused(pipe)
    assert "not a plain file" in refused(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    assert "longer than any private key" in refused(place(tmp_path, plain() + b"\n" * MAX_BYTES))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_text_around_the_key_does_no_harm(tmp_path: Path, line_end: bytes) -> None:
    data = b"made in January\n" + plain() + b"\n\n"
    assert file.load(place(tmp_path, data.replace(b"\n", line_end))).public == PUBLIC


def test_every_way_to_cut_a_key_off_is_refused(tmp_path: Path) -> None:
    pem = plain().rstrip()
    for length in range(len(pem)):
        message = refused(place(tmp_path, pem[:length]))
        assert ("is empty" in message) == (length == 0)
        assert ("cut off" in message) == (length >= len(b"-----BEGIN PRIVATE KEY-----"))


@given(st.data())
def test_a_damaged_key_is_refused_or_still_a_key(data: st.DataObject) -> None:
    pem = bytearray(plain())
    for _ in range(data.draw(st.integers(1, 4))):
        pem[data.draw(st.integers(0, len(pem) - 1))] = data.draw(st.integers(0, 255))
    try:
        signer = file.decode(bytes(pem), Path("key"), None)
    except KeyUnusable:
        return
    assert verify(signer.public.raw, signer.sign(b"m"), b"m")


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"ssh-ed25519 AAAA", "no key file in PEM"),
        (b"-----BEGIN \xff-----", "no key file in PEM"),
        (plain() + plain(), "more than one PEM block"),
        (plain(form=PrivateFormat.OpenSSH), "is an OpenSSH private key"),
        (
            plain(RSA, PrivateFormat.TraditionalOpenSSL),
            "holds a RSA PRIVATE KEY, not a private key in PKCS#8",
        ),
        (plain(RSA), "holds a key of the kind RSA; only Ed25519"),
        (plain(ec.generate_private_key(ec.SECP256R1())), "only Ed25519"),
        (plain(x25519.X25519PrivateKey.generate()), "holds a key of the kind X25519; only Ed25519"),
        (
            PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "holds a PUBLIC KEY",
        ),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is damaged"),
        (b"-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n", "is damaged"),
    ],
)
def test_what_is_not_an_ed25519_key_in_pkcs_8_is_named(tmp_path: Path, data: bytes, complaint: str) -> None:
    assert complaint in refused(place(tmp_path, data))


def test_passphrases_that_are_wrong_missing_or_needless_are_told_apart(tmp_path: Path) -> None:
    sealed = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
    path = place(tmp_path, sealed)
    assert file.load(path, b"right").public == PUBLIC
    assert "does not open" in refused(path, b"wrong")
    assert "none was given" in refused(path)
    assert "none was given" in refused(path, b"")
    path = place(tmp_path, plain())
    assert "which is not protected by one" in refused(path, b"right")
    assert file.load(path, b"").public == PUBLIC


# OpenSSH's private keys


# The type's name in the public part, "ssh-ed25519", made into one that does not exist.
OTHER_KIND = plain(form=PrivateFormat.OpenSSH).replace(b"c2gtZWQyNTUxO", b"c2gtZWQyNTUxP")


def refused_openssh(path: Path, passphrase: bytes | None = None) -> KeyUnusable:
    with pytest.raises(KeyUnusable) as caught:
        openssh.load(path, passphrase)
    return caught.value


def test_an_openssh_key_signs(tmp_path: Path) -> None:
    path = place(tmp_path, plain(form=PrivateFormat.OpenSSH))
    for signer in (openssh.load(path), load_signer(path)):
        assert signer.public == PUBLIC
        assert verify(PUBLIC.raw, signer.sign(b"m"), b"m")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (plain(), "holds a PRIVATE KEY, not an OpenSSH private key"),
        (plain(RSA, PrivateFormat.OpenSSH), "holds a key of the kind RSA"),
        (OTHER_KIND, "of a kind that is not supported"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "is damaged",
        ),
    ],
)
def test_what_is_not_an_openssh_ed25519_key_is_named(tmp_path: Path, data: bytes, complaint: str) -> None:
    assert complaint in refused_openssh(place(tmp_path, data)).message


@given(st.data())
def test_a_damaged_openssh_key_is_refused_or_still_a_key(data: st.DataObject) -> None:
    pem = bytearray(plain(form=PrivateFormat.OpenSSH))
    for _ in range(data.draw(st.integers(1, 4))):
        pem[data.draw(st.integers(0, len(pem) - 1))] = data.draw(st.integers(0, 255))
    try:
        signer = openssh.decode(bytes(pem), Path("key"), None)
    except KeyUnusable:
        return
    assert verify(signer.public.raw, signer.sign(b"m"), b"m")


@needs_posix
def test_B81_an_openssh_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = place(tmp_path, plain(form=PrivateFormat.OpenSSH), 0o644)
    assert "open to others" in refused_openssh(path).message
    with pytest.raises(KeyUnusable, match="open to others"):
        load_signer(path)


def test_a_needless_passphrase_for_an_openssh_key_is_refused(tmp_path: Path) -> None:
    path = place(tmp_path, plain(form=PrivateFormat.OpenSSH))
    assert "which is not protected by one" in refused_openssh(path, b"pw").message


@needs_ssh_keygen
@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
def test_a_protected_openssh_key_is_opened_or_says_what_it_needs(tmp_path: Path, cipher: str) -> None:
    path = tmp_path / "id_ed25519"
    run(str(SSH_KEYGEN), "-q", "-t", "ed25519", "-N", "right", "-Z", cipher, "-f", path)
    if cipher.startswith("chacha20"):
        assert "of a kind that is not supported" in refused_openssh(path, b"right").message
        return
    assert "none was given" in refused_openssh(path).message
    if importlib.util.find_spec("bcrypt") is None:
        error = refused_openssh(path, b"right")
        assert "needs the bcrypt package" in error.message
        assert "install bcrypt" in error.hint
    else:
        public, _ = parse_openssh(path.with_suffix(".pub").read_bytes().rstrip(b"\n"))
        assert openssh.load(path, b"right").public == public
        assert "does not open" in refused_openssh(path, b"wrong").message


def test_a_key_of_another_type_is_named() -> None:
    """The same length as ours in SSH's wire format, and another type in front."""
    with pytest.raises(FormatError, match=r"the line begins with b'ssh-rsa'"):
        parse_openssh(b"ssh-rsa AAAA")
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    blob = PublicKey(raw).blob
    assert PublicKey.from_blob(blob).raw == raw
    with pytest.raises(FormatError, match="wire format"):
        PublicKey.from_blob(bytes(len(blob) - len(raw)) + raw)
