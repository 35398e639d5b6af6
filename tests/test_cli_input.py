"""The command line under bad input: what is wrong, where, and what to do, with an exit code that is never 0."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from pathlib import Path

import pytest
from conftest import POLICY, Repo
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tools_cli import as_ordinary_user, folder_of_ordinary_user, give_away, make, run, start

from safeai_git import cli, plain
from safeai_git.commands import check as check_command
from safeai_git.commands import people
from safeai_git.commands import replay as replay_command
from safeai_git.commands.session import Session
from safeai_git.core.policy import LARGEST_POLICY


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A repository with a policy, a key and some commits, which no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    repo = start(make(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "config")}))
    repo.git("tag", "first")
    repo.commit("second", {"src/b.py": "b = 1\n"}, ai=True)
    repo.commit("third", {"src/b.py": "b = 2\n"}, ai=True)
    return repo


def with_policy(repo: Repo, content: str | bytes, name: str = "policy.yaml") -> Repo:
    repo.commit("policy", {f".safeai/{name}": content})
    repo.write("src/a.py", "a = 1\n")
    repo.git("add", "-A")
    return repo


# The policy


def test_no_policy_means_the_built_in_one_and_is_said_aloud(repo: Repo) -> None:
    repo.commit("start", {"a": "1"})
    repo.write("b", "2")
    repo.git("add", "b")
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 0
    assert (
        "policy: none in this repository, so the built-in default ('safeai-git init' writes one)" in done.out
    )


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("", ": the file says nothing", "write at least 'safe_mode: true', or delete the file"),
        ("# nothing\n", ": the file says nothing", "write at least"),
        ("deny_path: [a]\n", ":1:1: unknown key 'deny_path'", "did you mean 'deny_paths'?"),
        ("safe_mode: yes\n", ":1:12: 'yes' is text to some readers", 'write true, or "yes"'),
        ("safe_mode: true\nmax_edits: -1\n", ":2:12: ", ""),
        ("safe_mode: true\nmax_edits: .nan\n", ":2:12: ", ""),
        ("safe_mode: [\n", ":2:1: ", ""),
        ("a: &x b\nc: *x\n", "an anchor (&x)", "policy lint"),
        (b"safe_mode: \xff\n", ":1:12: the byte 0xff is not UTF-8", "save the file as UTF-8"),
        ("safe_mode: true\x1b[2J\n", ":1:16: the invisible character U+001B", "remove it"),
        ("- a\n", "must be a mapping", ""),
    ],
)
def test_B06_B07_a_policy_that_says_nothing_clear_decides_nothing(
    repo: Repo, content: str | bytes, message: str, hint: str
) -> None:
    with_policy(repo, content)
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 3
    assert done.out == ""
    assert ".safeai/policy.yaml at " in done.err
    assert message in done.err
    assert hint in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize("name", ["policy.yml", "Policy.yaml", "polcy.yaml"])
def test_B06_a_misspelt_policy_is_no_missing_policy(repo: Repo, name: str) -> None:
    with_policy(repo, POLICY, name)
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 3
    assert f"but there is .safeai/{name}" in done.err
    assert "rename it to policy.yaml on the base branch" in done.err


def test_B06_a_policy_that_is_a_link_or_a_folder_is_not_followed(repo: Repo) -> None:
    repo.write("elsewhere.yaml", POLICY)
    (repo.path / ".safeai").mkdir()
    (repo.path / ".safeai" / "policy.yaml").symlink_to("../elsewhere.yaml")
    repo.commit("link")
    assert_no_plain_file(repo)
    (repo.path / ".safeai" / "policy.yaml").unlink()
    repo.commit("folder", {".safeai/policy.yaml/inner": "x"})
    assert_no_plain_file(repo)


def assert_no_plain_file(repo: Repo) -> None:
    done = repo.safeai("check", "--no-sign")
    assert done.code == 3
    assert "is not a plain file" in done.err
    assert "a maintainer has to put the file back" in done.err
    linted = repo.safeai("policy", "lint")
    assert linted.code == 3
    assert str(repo.path / ".safeai/policy.yaml") in linted.err


def test_B06_a_policy_folder_that_is_a_file_decides_nothing(repo: Repo) -> None:
    repo.commit("file", {".safeai": "x"})
    done = repo.safeai("check", "--no-sign")
    assert done.code == 3
    assert "is not a folder" in done.err


def test_B54_a_policy_that_is_too_large_is_not_read(repo: Repo) -> None:
    with_policy(repo, POLICY + "#" * LARGEST_POLICY)
    done = repo.safeai("check", "--no-sign")
    assert done.code == 3
    assert f"is larger than {LARGEST_POLICY:,} bytes" in done.err
    linted = repo.safeai("policy", "lint")
    assert linted.code == 3
    assert f"more than {LARGEST_POLICY:,} bytes" in linted.err


def test_B54_a_policy_file_without_an_end_is_not_read_to_its_end(shared: Repo) -> None:
    for arguments in (["policy", "lint", "/dev/zero"], ["check", "--policy", "/dev/zero"]):
        done = shared.safeai(*arguments)
        assert done.code == 3, arguments
        assert f"more than {LARGEST_POLICY:,} bytes" in done.err


def test_a_policy_file_that_cannot_be_read(shared: Repo) -> None:
    with folder_of_ordinary_user() as folder:
        file = folder / "policy.yaml"
        file.write_text(POLICY)
        file.chmod(0)
        folder.chmod(0o755)
        done = run(
            ["policy", "lint", str(file)],
            Path("/"),
            shared.environment,
            program=[*as_ordinary_user(), sys.executable, "-m", "safeai_git"],
        )
        assert done.code == 3
        assert f"{file}: Permission denied" in done.err
        assert "name a file that can be read" in done.err


def test_a_policy_file_that_is_not_there(shared: Repo) -> None:
    for arguments in (["check", "--policy", "nowhere.yaml"], ["policy", "lint", "nowhere.yaml"]):
        done = shared.safeai(*arguments)
        assert done.code == 3
        assert "nowhere.yaml: No such file or directory" in done.err
        assert "hint: name a" in done.err


# The repository


def test_outside_a_repository(tmp_path: Path, environment: dict[str, str]) -> None:
    for command in (
        ["check"],
        ["verify"],
        ["show"],
        ["scope"],
        ["approve"],
        ["explain", "x"],
        ["policy", "show"],
        ["hook", "run", "pre-commit"],
        ["init"],
    ):
        done = run(command, tmp_path, environment)
        assert done.code == 3, command
        assert f"{tmp_path} is not inside a git repository" in done.err
        assert "make one with 'git init'" in done.err
        assert done.out == ""


def test_a_bare_repository_has_nothing_staged_but_ranges(shared: Repo, tmp_path: Path) -> None:
    shared.git("clone", "-q", "--bare", str(shared.path), str(tmp_path / "bare"))
    bare = Repo(tmp_path / "bare", shared.environment)
    done = bare.safeai("check")
    assert done.code == 3
    assert "is a bare repository: it has no index" in done.err
    assert "use --range BASE..HEAD" in done.err
    done = bare.safeai("check", "--range", "first..main", "--no-sign")
    assert done.code == 0, done.both
    assert "ALLOW 3 judged, 3 governed" in done.out


def test_in_the_folder_of_git_itself(shared: Repo) -> None:
    done = shared.safeai("check", cwd=shared.path / ".git")
    assert done.code == 3
    assert "is inside git's own folder" in done.err


def test_before_the_first_commit(repo: Repo) -> None:
    repo.write("a", "1")
    repo.git("add", "a")
    assert repo.safeai("check", "--agent", "claude-code", "--no-sign").code == 0
    for command, message in (
        (["verify"], "there are no commits to verify yet"),
        (["show"], "unknown revision 'HEAD'"),
        (["check", "--range", "main..HEAD"], "unknown revision 'main'"),
        (["check", "--patch", "-"], "unknown revision 'HEAD'"),
        (["replay", "HEAD"], "unknown revision 'HEAD'"),
    ):
        done = repo.safeai(*command)
        assert done.code == 3, command
        assert message in done.err
        assert "hint: " in done.err


def test_B49_a_shallow_clone_names_what_mends_it(shared: Repo, tmp_path: Path) -> None:
    shared.git("clone", "-q", "--depth", "1", f"file://{shared.path}", str(tmp_path / "shallow"))
    clone = Repo(tmp_path / "shallow", shared.environment)
    first = shared.git("rev-parse", "first")
    for arguments in (
        ["check", "--range", f"{first}..HEAD"],
        ["check", "--range", "HEAD~1..HEAD"],
        ["verify"],
    ):
        done = clone.safeai(*arguments)
        assert done.code == 3, arguments
        assert "shallow clone" in done.err
        assert "git fetch --unshallow" in done.err
    doctor = clone.safeai("doctor")
    assert "shallow: ranges may not be decidable ('git fetch --unshallow')" in doctor.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "--range", "nowhere..HEAD"], 3, "unknown revision 'nowhere'"),
        (["verify", "HEAD..nowhere"], 3, "unknown revision 'nowhere'"),
        (["approve", "nowhere"], 3, "unknown revision 'nowhere'"),
        (["check", "--range", "first...HEAD"], 2, "two dots, not three"),
        (["check", "--range", "HEAD"], 2, "'HEAD' is not a range"),
        (["check", "--range", "a..b..c"], 3, "unknown revision 'a'"),
        (["check", "--range", "--all..HEAD"], 2, "is not a revision"),
        (["show", "HEAD:src/a.py"], 3, "unknown revision 'HEAD:src/a.py'"),
        (["policy", "show", "--at", "nowhere"], 3, "unknown revision 'nowhere'"),
        (["check", "--range", "first..HEAD", "--patch", "-"], 2, "--patch and --range exclude each other"),
        (["check", "--base", "HEAD"], 2, "--base goes with --patch"),
        (["replay"], 2, "name a commit, or say --staged"),
        (["replay", "HEAD", "--staged"], 2, "name a commit, or say --staged"),
        (["replay", "HEAD"], 2, "the policy has no checks"),
        (["replay", "HEAD", "--check", "none"], 2, "the policy has no check 'none'"),
        (["hook", "run", "post-merge"], 2, "there is no hook 'post-merge'"),
        (["keys", "generate", "--key-id", "../x"], 2, "a key cannot be called '../x'"),
        (["keys", "export", "--key-id", "nobody"], 2, "ed25519.nobody.pub: No such file or directory"),
        (["check", "--patch", "nowhere.patch"], 2, "nowhere.patch: No such file or directory"),
        (["-C", "nowhere", "check"], 2, "-C nowhere: No such file or directory"),
    ],
)
def test_what_is_asked_for_makes_no_sense(
    shared: Repo, arguments: list[str], code: int, message: str
) -> None:
    done = shared.safeai(*arguments)
    assert done.code == code
    assert message in done.err
    assert "  hint: " in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["check", "--frobnicate"], "No such option: --frobnicate"),
        (["check", "--format", "yaml"], "'yaml' is not one of"),
        (["policy", "frobnicate"], "No such command 'frobnicate'"),
        (["explain"], "Missing argument"),
        (["explain", "a", "b"], "unexpected extra argument"),
        (["check", "--range"], "requires an argument"),
        ([], "Usage: safeai-git"),
    ],
)
def test_unknown_words_are_wrong_use(shared: Repo, arguments: list[str], message: str) -> None:
    done = shared.safeai(*arguments)
    assert done.code == 2
    assert message in done.both


def test_B03_a_name_that_means_two_things_is_refused(make_repo: object, shared: Repo, tmp_path: Path) -> None:
    shutil.copytree(shared.path, tmp_path / "copy")
    repo = Repo(tmp_path / "copy", shared.environment)
    first = repo.git("rev-parse", "first")
    repo.git("branch", "first", "HEAD")
    repo.git("update-ref", f"refs/heads/{first}", "HEAD")
    repo.git("update-ref", f"refs/heads/{first[:7]}", "HEAD")
    for name in ("first", first[:7]):
        done = repo.safeai("check", "--range", f"{name}..HEAD", "--no-sign")
        assert done.code == 3, name
        assert f"'{name}' could mean more than one thing" in done.err
        assert "give the full name" in done.err
    assert repo.safeai("check", "--range", "refs/tags/first..HEAD", "--no-sign").code == 0
    done = repo.safeai(
        "check", "--range", f"{first}..HEAD", "--no-sign"
    )  # a whole id is that commit, or refused
    assert "ALLOW 3 judged" in done.out or "could mean more than one thing" in done.err


def loose(repo: Repo, name: str) -> Path:
    return repo.path / ".git" / "objects" / name[:2] / name[2:]


def test_objects_that_are_missing_or_corrupt_decide_nothing(shared: Repo, tmp_path: Path) -> None:
    blob = shared.git("rev-parse", "HEAD:src/b.py")
    shutil.copytree(shared.path, tmp_path / "missing")
    missing = Repo(tmp_path / "missing", shared.environment)
    loose(missing, blob).unlink()
    shutil.copytree(shared.path, tmp_path / "corrupt")
    corrupt = Repo(tmp_path / "corrupt", shared.environment)
    loose(corrupt, blob).chmod(0o644)
    loose(corrupt, blob).write_bytes(zlib.compress(b"blob 6\0b = 9\n"))
    for repo, message in (
        (missing, f"object {blob} is not in the object store"),
        (corrupt, f"object {blob}"),
    ):
        done = repo.safeai("check", "--range", "first..HEAD", "--no-sign")
        assert done.code in (1, 3), (
            done.both
        )  # a blob that cannot be read denies in safe mode, or is no decision
        assert message in done.both or "could not be read" in done.both
    tree = shared.git("rev-parse", "HEAD^{tree}")
    for repo in (missing, corrupt):
        loose(repo, tree).unlink()
        done = repo.safeai("check", "--range", "first..HEAD", "--no-sign")
        assert done.code == 3
        assert f"object {tree} is not in the object store" in done.err
        assert "git fetch --refetch" in done.err


def test_an_unmerged_index_is_no_tree(shared: Repo, tmp_path: Path) -> None:
    shutil.copytree(shared.path, tmp_path / "copy")
    repo = Repo(tmp_path / "copy", shared.environment)
    blob = repo.git("rev-parse", "HEAD:src/b.py")
    repo.git("update-index", "--index-info", stdin=f"100644 {blob} 2\tsrc/b.py\n".encode())
    done = repo.safeai("check")
    assert done.code == 3
    assert "the index holds unmerged paths" in done.err
    (repo.path / ".git" / "index").write_bytes(b"DIRC not an index")
    done = repo.safeai("check")
    assert done.code == 3
    assert "hint: " in done.err


# Keys


def staged(repo: Repo) -> Repo:
    repo.write("src/new.py", "new = 1\n")
    repo.git("add", "-A")
    return repo


@pytest.fixture(scope="module")
def ready(shared: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repository with something staged; its key is another test's business."""
    folder = tmp_path_factory.mktemp("ready") / "repo"
    shutil.copytree(shared.path, folder)
    return staged(Repo(folder, shared.environment))


def check(repo: Repo, key: Path | None, *arguments: str, **env: str) -> object:
    return repo.safeai(
        "check", "--agent", "claude-code", *arguments, env=env | ({"SAFEAI_KEY": str(key)} if key else {})
    )


def test_B83_no_key_means_no_signature_and_exit_3_when_one_was_asked_for(ready: Repo, tmp_path: Path) -> None:
    none = {"XDG_CONFIG_HOME": str(tmp_path / "empty")}
    done = ready.safeai("check", "--agent", "claude-code", "--sign", env=none)
    assert done.code == 3
    assert "there is no key to sign with" in done.err
    assert "safeai-git keys generate" in done.err
    done = ready.safeai("check", "--agent", "claude-code", env=none)
    assert done.code == 0
    assert "not signed: no key is configured" in done.err
    assert "signed:" not in done.out
    done = ready.safeai("approve", "-m", "fine", env=none)
    assert done.code == 3
    assert "there is no key to sign with" in done.err


def test_a_key_that_cannot_be_used_is_named_and_what_was_found_is_shown_first(
    ready: Repo, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    made = ready.safeai(
        "keys",
        "generate",
        "--key-id",
        "a",
        "--folder",
        str(folder),
        "--passphrase",
        env={"SAFEAI_KEY_PASSPHRASE": "right"},
    )
    assert made.code == 0, made.both
    key = folder / "ed25519.a.sk"
    assert check(ready, key, SAFEAI_KEY_PASSPHRASE="right").code == 0
    ssh = tmp_path / "rsa"
    another = rsa.generate_private_key(65537, 2048)
    ssh.write_bytes(another.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    ssh.chmod(0o600)
    junk = tmp_path / "junk"
    junk.write_text("hello")
    junk.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(key)
    for bad, passphrase, message in (
        (key, "wrong", "passphrase"),
        (key, "", "passphrase"),
        (ssh, "", "ed25519"),
        (junk, "", "key"),
        (link, "right", "link"),
        (tmp_path, "", "not a plain file"),
        (tmp_path / "nowhere", "", "nowhere"),
    ):
        done = check(ready, bad, SAFEAI_KEY_PASSPHRASE=passphrase)
        assert done.code == 3, (bad, done.both)
        assert str(bad) in done.err
        assert message in done.err.lower(), (bad, done.err)
        assert "ALLOW staged change" in done.out
        assert "signed:" not in done.out
    key.chmod(0o644)
    done = check(ready, key, SAFEAI_KEY_PASSPHRASE="right")
    assert done.code == 3
    assert "is open to others (mode 0644)" in done.err
    assert f"chmod 600 {key}" in done.err


def test_the_passphrase_is_never_shown(ready: Repo, tmp_path: Path) -> None:
    secret = "correct horse battery"
    env = {"SAFEAI_KEY_PASSPHRASE": secret}
    folder = str(tmp_path / "keys")
    made = ready.safeai("keys", "generate", "--folder", folder, "--passphrase", env=env)
    used = check(ready, tmp_path / "keys" / "ed25519.default.sk", "--format", "json", **env)
    assert secret not in made.both + used.both
    assert secret.encode() not in (tmp_path / "keys" / "ed25519.default.sk").read_bytes()


def test_a_passphrase_that_nobody_can_type_is_wrong_use(ready: Repo, tmp_path: Path) -> None:
    done = ready.safeai("keys", "generate", "--folder", str(tmp_path / "k"), "--passphrase")
    assert done.code == 2
    assert "set SAFEAI_KEY_PASSPHRASE" in done.err
    assert not (tmp_path / "k").exists()


# Folders that cannot be written


def test_a_git_folder_that_cannot_be_written(base_environment: dict[str, str]) -> None:
    prefix = as_ordinary_user()
    with folder_of_ordinary_user() as folder:
        config, home = folder / "config", folder / "home"
        environment = base_environment | {"XDG_CONFIG_HOME": str(config), "HOME": str(home)}
        home.mkdir()
        shutil.copy(Path(base_environment["HOME"]) / ".gitconfig", home)
        repo = start(make(folder / "repo", environment))
        tip = repo.commit("by an agent", {"src/b.py": "b = 1\n"}, ai=True)
        folder.chmod(0o755)
        give_away(folder)
        for root, folders, files in os.walk(repo.path / ".git"):
            for name in [*folders, *files]:
                Path(root, name).chmod(0o555)
        (repo.path / ".git").chmod(0o555)
        program = [*prefix, sys.executable, "-m", "safeai_git"]
        before = tree_of(repo.path)
        judged = run(
            ["check", "--range", "HEAD~1..HEAD", "--no-sign"], repo.path, environment, program=program
        )
        assert judged.code == 0, judged.both
        done = run(["check", "--range", "HEAD~1..HEAD"], repo.path, environment, program=program)
        assert done.code == 3
        assert "cannot be written" in done.err
        assert "check free space and permissions" in done.err
        assert f"ALLOW commit {tip[:12]}" in done.out
        assert "signed:" not in done.out
        assert tree_of(repo.path) == before
        for root, folders, _ in os.walk(repo.path / ".git"):
            for name in folders:
                Path(root, name).chmod(0o755)
        (repo.path / ".git").chmod(0o755)


def tree_of(folder: Path) -> set[str]:
    return {
        os.path.join(root, name) for root, folders, files in os.walk(folder) for name in [*folders, *files]
    }


FULL_DISK = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.executable, [sys.executable, "-m", "safeai_git", *sys.argv[2:]])
"""


@pytest.mark.parametrize("room", [40, 700, 1500])
def test_a_file_that_cannot_grow_leaves_nothing_half_written(shared: Repo, tmp_path: Path, room: int) -> None:
    shutil.copytree(shared.path, tmp_path / "repo")
    repo = Repo(tmp_path / "repo", shared.environment)
    before = tree_of(repo.path)
    program = [sys.executable, "-c", FULL_DISK, str(room)]
    done = run(
        ["check", "--range", "first..HEAD"],
        repo.path,
        repo.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        program=program,
    )
    assert done.code == 3, done.both
    assert "ALLOW 3 judged" in done.out
    assert "signed:" not in done.out
    assert "hint: " in done.err
    whole_or_nothing(repo, before)
    again = repo.safeai("check", "--range", "first..HEAD")
    assert again.code == 0, again.both
    assert repo.safeai("verify", "first..HEAD").code == 0


def whole_or_nothing(repo: Repo, before: set[str]) -> None:
    """What a failed run left behind is complete: no temporary file, no lock, a ref that can be read."""
    left = {Path(path).name for path in tree_of(repo.path) - before}
    assert not [
        name for name in left if name.endswith((".lock", ".tmp")) or name.startswith((".", "tmp_"))
    ], left
    refs = repo.git("for-each-ref", "--format=%(refname)", "refs/notes").split()
    for ref in refs:
        for line in repo.git("ls-tree", "-r", ref).splitlines():
            for envelope in repo.git_bytes("cat-file", "blob", line.split()[2]).splitlines():
                assert json.loads(envelope)["payloadType"] == "application/vnd.in-toto+json"
    for report in (repo.path / ".git" / "safeai").glob("reports/*"):
        json.loads(report.read_bytes())


def test_a_full_disk_leaves_nothing_half_written(shared: Repo, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        pytest.skip("mounting a small disk takes root and unshare")
    script = """
    set -e
    mount -t tmpfs -o size=1m tmpfs "$1"
    cp -r "$2" "$1/repo"
    cd "$1/repo"
    find . | sort >../before
    dd if=/dev/zero of=../filler bs=1k count=100000 2>/dev/null || true
    set +e
    "$3" -m safeai_git check --range first..HEAD; echo "code $?"
    rm ../filler
    find . | sort >../after
    diff ../before ../after
    git fsck --no-dangling && git for-each-ref refs/notes; echo checked
    "$3" -m safeai_git check --range first..HEAD; echo "code $?"
    """
    (tmp_path / "disk").mkdir()
    done = run(
        ["sh", "-c", script, "sh", str(tmp_path / "disk"), str(shared.path), sys.executable],
        tmp_path,
        shared.environment | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        program=[unshare, "-m", "--propagation", "private"],
    )
    if "mount:" in done.err:
        pytest.skip("nothing can be mounted here")
    assert "code 3\n" in done.out, done.both
    assert "cannot be written" in done.err
    assert "No space left on device" in done.err
    assert "tmp_" not in done.out
    assert ".lock" not in done.out
    assert "refs/notes" not in done.out.partition("checked")[0]
    assert done.out.endswith("code 0\n"), done.both


PLAIN = """
check
check --no-replay --no-sign
check --sign --format json
check --range HEAD~1..HEAD --format=jsonl
check --range=a..b --agent claude-code --branch x --no-sign
replay HEAD
replay --quiet HEAD
replay HEAD --quiet
replay --staged
verify
verify --all
verify a..b --format jsonl
verify --ref refs/heads/main --all
"""


@pytest.mark.parametrize("line", PLAIN.strip().splitlines())
def test_a_plain_line_means_what_it_means_to_typer(
    line: str, shared: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*arguments: object, **more: object) -> int:
        asked.append((*arguments, more))
        return 7

    asked: list[tuple[object, ...]] = []
    for module, name in ((check_command, "check"), (replay_command, "replay"), (people, "verify")):
        monkeypatch.setattr(module, name, told)
    monkeypatch.chdir(shared.path)
    action = plain.read(line.split())
    assert action is not None
    assert [action(), cli.run(line.split())] == [7, 7]
    here, there = asked
    assert isinstance(here[0], Session)
    assert isinstance(there[0], Session)
    assert here[0].output_format == there[0].output_format
    assert here[1:-1] == there[1:-1]
    usual = {"report": None, "log_keys": ()} if line.startswith("verify") else {}
    assert {**usual, **here[-1]} == there[-1]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["replay"],
        ["replay", "HEAD", "--staged"],
        ["replay", "HEAD", "HEAD~1"],
        ["replay", "HEAD", "--quiet", "--quiet"],
        ["replay", "HEAD", "--format", "json"],
        ["replay", "HEAD", "--check=a"],
        ["replay", "--", "HEAD"],
        ["replay", "--staged", ""],
        ["verify", "a..b", "c"],
        ["verify", "--format", "xml"],
        ["verify", "--format"],
        ["verify", "--ref", "--all"],
        ["verify", "--ref="],
        ["verify", "--ref", "a", "--ref", "b"],
        ["verify", "--all=yes"],
        ["verify", "--help"],
        ["verify", "-h"],
        ["verify", "-"],
        ["check", "HEAD"],
        ["check", "--sign", "--no-sign"],
        ["check", "--rang", "a..b"],
        ["check", "--policy", "p.yaml"],
        ["check", "--range", ""],
        ["attribution", "HEAD"],
        ["-C", "x", "check"],
    ],
)
def test_other_lines_are_left_to_typer(arguments: list[str]) -> None:
    assert plain.read(arguments) is None
