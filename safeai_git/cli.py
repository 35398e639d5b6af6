"""The commands of ``safeai-git``: their names, arguments and help. What they do is in `commands`, loaded when used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from safeai_git import __version__
from safeai_git.cli_agents import register_agents
from safeai_git.cli_evidence import Door, register_evidence
from safeai_git.cli_options import (
    AgainOption,
    AgentOption,
    AtOption,
    EvidenceOption,
    Format,
    FormatOption,
    JobsOption,
    LogOption,
    PolicyOption,
    ReportOption,
    ShellOption,
)

if TYPE_CHECKING:
    from safeai_git.commands.found import Report
    from safeai_git.commands.session import Session


EXITS = (
    "Exit codes: 0 allowed, 1 refused (or review without its approvals), 2 wrong use, 3 could not decide. "
    "3 never means allowed."
)

app = typer.Typer(
    name="safeai-git",
    help="Limits, evidence and a stop button for commits that AI agents write.\n\n"
    "Start with 'safeai-git init' in a repository, then commit as usual: the hooks judge each change against "
    f".safeai/policy.yaml of the commit that it is based on, and sign the verdict. {EXITS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
policy_app = typer.Typer(help="Show, check and test policies.", no_args_is_help=True)
keys_app = typer.Typer(help="Make, list and export signing keys.", no_args_is_help=True)
hook_app = typer.Typer(help="Install, remove and run the git hooks.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(keys_app, name="keys")
app.add_typer(hook_app, name="hook")


class _Parsed(Exception):
    """Carries what is to be done out of typer, which would make exit codes of its own of Ctrl-C and closed pipes."""

    def __init__(self, action: Callable[[], int]) -> None:
        super().__init__()
        self.action = action


def _end(session: Session, action: Callable[[], int]) -> NoReturn:
    def closing() -> int:
        try:
            return action()
        finally:
            session.close()

    raise _Parsed(closing)


def _report(wanted: list[str] | None) -> Report | None:
    """Where reports go; what writes them is loaded only if somebody wants one."""
    if not wanted:
        return None
    from safeai_git.commands.reports import Reports

    return Reports.parse(wanted).write


def _session(output_format: Format) -> Session:
    from safeai_git.commands.session import Session

    return Session.here(output_format.value)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"safeai-git {__version__}")
        raise typer.Exit


@app.callback()
def root(
    folder: Annotated[
        Path | None,
        typer.Option("-C", metavar="FOLDER", help="Run as if started in this folder.", show_default=False),
    ] = None,
    version: Annotated[  # noqa: ARG001 - typer needs the parameter
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Options of every command."""
    from safeai_git.core.errors import WrongUse

    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise WrongUse(
                f"-C {folder}: {error.strerror}", hint="name a folder that you can enter"
            ) from error


@app.command()
def init(
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to every question, e.g. to run before another hook.")
    ] = False,
    hooks: Annotated[bool, typer.Option("--hooks/--no-hooks", help="Install the git hooks too.")] = True,
) -> None:
    """Set this clone up: policy, signing key, allowed signers, hooks, and notes that travel.

    Nothing that is there is overwritten; run it again at any time.
    """
    from safeai_git.commands import setup

    session = _session(Format.text)
    _end(session, lambda: setup.init(session, yes=yes, hooks=hooks, version=__version__))


@app.command()
def check(
    revisions: Annotated[
        str,
        typer.Option(
            "--range", metavar="BASE..HEAD", help="Judge these commits, their net change and the merge."
        ),
    ] = "",
    patch: Annotated[
        Path | None,
        typer.Option(
            "--patch", metavar="FILE", help="Judge a patch ('-' for standard input).", readable=False
        ),
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="REV", help="What the patch applies to (default: HEAD).")
    ] = "",
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="Run the policy's checks in the sandbox.")
    ] = True,
    sign: Annotated[
        bool | None,
        typer.Option(
            "--sign/--no-sign",
            help="Sign the verdicts (default: if a key is configured).",
            show_default=False,
        ),
    ] = None,
    agent: AgentOption = "",
    branch: Annotated[
        str, typer.Option("--branch", metavar="NAME", help="The change's branch, as CI knows it.")
    ] = "",
    jobs: JobsOption = 1,
    policy: PolicyOption = None,
    report: ReportOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Judge a change: what is staged, a range of commits, or a patch.

    Every finding is shown at once, with its rule, its path, why, what to do, and who can lift it. The policy is that
    of the commit that the change is based on.

    Examples: 'safeai-git check', 'safeai-git check --range main..feature', 'git diff | safeai-git check --patch -'.
    """
    from safeai_git.commands import check as command

    session = _session(output_format)
    more = (replay, sign, _report(report), jobs)
    request = command.Request(revisions, patch, base, agent, branch, policy, *more)
    _end(session, lambda: command.check(session, request))


@app.command()
def replay(
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="The commit whose tree is replayed.")] = "",
    staged: Annotated[bool, typer.Option("--staged", help="Replay the staged tree.")] = False,
    only: Annotated[str, typer.Option("--check", metavar="NAME", help="Only this check.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not pass on what the checks print.")] = False,
    jobs: JobsOption = 1,
    shell: ShellOption = False,
    log: LogOption = "",
    again: AgainOption = "",
    output_format: FormatOption = Format.text,
) -> None:
    """Run the policy's checks on a proposed tree in a sandbox.

    No network, no home folder, no secrets; nothing runs where that cannot be had (exit 3). With --again: 0 the same,
    1 something differs, 3 it could not be found out.
    """
    from safeai_git.commands import replay as command
    from safeai_git.core.errors import WrongUse

    if sum(map(bool, (revision, staged, log, again))) != 1:
        raise WrongUse(
            "name a commit, or say --staged, --log or --again, one of them",
            hint="for example: safeai-git replay HEAD",
        )
    session = _session(output_format)
    request = command.Request(revision, only, not quiet, jobs)
    if log:
        _end(session, lambda: command.log(session, log))
    if again:
        _end(session, lambda: command.again(session, again, request))
    if shell:
        _end(session, lambda: command.shell(session, request))
    _end(session, lambda: command.replay(session, request))


@app.command()
def ci(
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="check (judge), verify (ask for verdicts) or both.")
    ] = "check",
    base: Annotated[
        str,
        typer.Option("--base", metavar="REV", help="Where the change starts (default: from the CI system)."),
    ] = "",
    head: Annotated[
        str, typer.Option("--head", metavar="REV", help="Its end (default: from the CI system).")
    ] = "",
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="Run the policy's checks in the sandbox.")
    ] = True,
    fetch: Annotated[
        str,
        typer.Option("--fetch", metavar="REMOTE", help="Fetch missing history and verdicts from here."),
    ] = "",
    push: Annotated[
        bool, typer.Option("--push", help="Push the signed verdicts to the remote of --fetch.")
    ] = False,
    fail_on: Annotated[
        str, typer.Option("--fail-on", metavar="DECISION", help="review (default) or deny: what ends with 1.")
    ] = "review",
    decide: Annotated[
        bool,
        typer.Option("--decide", help="Have the policy's Governor judge too, and sign: no key is needed."),
    ] = False,
    verdicts: Annotated[
        Path | None,
        typer.Option("--verdicts", metavar="FILE", help="Write this job's signed verdicts, one a line."),
    ] = None,
    evidence: EvidenceOption = None,
    jobs: JobsOption = 1,
    policy: PolicyOption = None,
    report: ReportOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Judge the change that a CI job is about: a pull request, a push, a merge queue's group.

    The commits come from the job's variables; on GitHub a summary and outputs are written. See docs/ci.md.
    """
    from safeai_git.commands import ci as command
    from safeai_git.commands.reports import Reports

    session = _session(output_format)
    reports = Reports.parse(report or ())
    request = command.Request(
        mode, base, head, policy, replay, fetch, push, fail_on, reports, jobs, evidence, decide, verdicts
    )
    _end(session, lambda: command.run(session, request))


register_evidence(app, Door(_session, _end, _report))
register_agents(app, Door(_session, _end, _report))


@app.command()
def attribution(
    revisions: Annotated[
        str,
        typer.Argument(metavar="[RANGE]", help="BASE..HEAD, or a revision and its history (default: HEAD)."),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="The commits of every branch and tag instead.")
    ] = False,
    hints: Annotated[
        bool, typer.Option("--hints", help="Read git-ai's and Agent Trace's notes too; they decide nothing.")
    ] = False,
    records: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Agent Trace records to look the commits up in.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Say who wrote each commit, and what says so: an agent, an agent and a person, a person, a bot.

    One line a commit: name, class, agent, confidence, signals. Only metadata is read, and no policy is asked.
    """
    from safeai_git.commands import attribution as command

    session = _session(output_format)
    _end(
        session,
        lambda: command.attribution(session, revisions, everything=everything, hints=hints, records=records),
    )


@app.command()
def explain(
    path: Annotated[str, typer.Argument(help="A path, relative to where you are. It need not exist.")],
    at: AtOption = "",
    policy: PolicyOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Say which pattern decides about a path, from which policy. Exits 0 only if an edit is allowed unseen."""
    from safeai_git.commands import policies

    session = _session(output_format)
    _end(session, lambda: policies.explain(session, path, at, policy))


@app.command()
def scope(
    for_agent: Annotated[
        bool, typer.Option("--for-agent", help="As text to tell an agent before it starts.")
    ] = False,
    agent: AgentOption = "",
    policy: PolicyOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Say what may be changed here."""
    from safeai_git.commands import policies

    session = _session(output_format)
    _end(session, lambda: policies.scope(session, agent, for_agent=for_agent, policy=policy))


@app.command()
def doctor(output_format: FormatOption = Format.text) -> None:
    """Examine this clone: git, hooks, policy, key, sandbox, clock. Exits 1 if the gate does not work."""
    from safeai_git.commands import doctor as command

    session = _session(output_format)
    _end(session, lambda: command.doctor(session))


@app.command()
def cache(
    empty: Annotated[
        bool, typer.Option("--clear", help="Remove what is kept; the next replay writes it anew.")
    ] = False,
    output_format: FormatOption = Format.text,
) -> None:
    """Show the trees that are kept in memory between replays, or remove them."""
    from safeai_git.commands import trees as command

    session = _session(output_format)
    _end(session, lambda: command.cache(session, empty=empty))


@policy_app.command("show")
def policy_show(
    at: AtOption = "", policy: PolicyOption = None, output_format: FormatOption = Format.text
) -> None:
    """Show the policy in force, every default written out."""
    from safeai_git.commands import policies

    session = _session(output_format)
    _end(session, lambda: policies.show(session, at, policy))


@policy_app.command("lint")
def policy_lint(
    path: Annotated[
        Path | None,
        typer.Argument(help="Default: .safeai/policy.yaml of the working tree.", readable=False),
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Check a policy file; everything that is wrong is shown with its line."""
    from safeai_git.commands import policies

    session = _session(output_format)
    _end(session, lambda: policies.lint(session, path))


@policy_app.command("test")
def policy_test(
    cases: Annotated[
        Path, typer.Argument(help="A YAML file of cases: a change and the expected decision.", readable=False)
    ],
    policy: PolicyOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Test a policy: each case is a change and the decision that it must get."""
    from safeai_git.commands import policies

    session = _session(output_format)
    _end(session, lambda: policies.test(session, cases, policy))


@policy_app.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policies."""
    from safeai_git.commands import policies

    session = _session(Format.json)
    _end(session, lambda: policies.schema(session))


@policy_app.command("publish")
def policy_publish(
    file: Annotated[Path, typer.Argument(help="The policy.", readable=False)],
    version: Annotated[int, typer.Option("--version", metavar="N", help="Higher than every one before.")],
    expires: Annotated[str, typer.Option("--expires", metavar="DATE", help="2027-01-31, in UTC.")],
    organisation: Annotated[str, typer.Option("--organisation", metavar="NAME", help="Whose policy it is.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Default: beside it, with '.signed'.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Sign a policy as an organisation's: it lies above every repository's own and can only tighten it."""
    from safeai_git.commands import policy_versions

    session = _session(output_format)
    _end(
        session,
        lambda: policy_versions.publish_policy(
            session, file, version=version, expires=expires, organisation=organisation, output=output
        ),
    )


@policy_app.command("diff")
def policy_diff(
    old: Annotated[str, typer.Argument(metavar="[OLD]", help="A revision or a file (default: HEAD).")] = "",
    new: Annotated[
        str, typer.Argument(metavar="[NEW]", help="A revision or a file (default: the working tree's).")
    ] = "",
    output_format: FormatOption = Format.text,
) -> None:
    """Show what a new policy changes in effect, and whether each change tightens or loosens."""
    from safeai_git.commands import policy_versions

    session = _session(output_format)
    _end(session, lambda: policy_versions.diff(session, old, new))


KeyFolder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where the keys are (default: your own key folder)."),
]
KeyName = Annotated[str, typer.Option("--key-id", metavar="NAME", help="The key's name in file names.")]


def _key_folder(session: Session, folder: Path | None) -> Path:
    from safeai_git.commands.session import default_key_folder

    return folder or default_key_folder(session.environ)


@keys_app.command("generate")
def keys_generate(
    key_id: KeyName = "default",
    folder: KeyFolder = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase (or take SAFEAI_KEY_PASSPHRASE).")
    ] = False,
    output_format: FormatOption = Format.text,
) -> None:
    """Make an Ed25519 key pair: ed25519.NAME.sk (only you can read it) and ed25519.NAME.pub."""
    from safeai_git.commands import keyring
    from safeai_git.core.errors import WrongUse

    session = _session(output_format)
    secret = session.environ.get("SAFEAI_KEY_PASSPHRASE") if passphrase else None
    if passphrase and not secret:
        try:
            secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
        except typer.Abort as error:
            raise WrongUse(
                "no passphrase was given", hint="type one at a terminal, or set SAFEAI_KEY_PASSPHRASE"
            ) from error
    _end(
        session,
        lambda: keyring.make(
            session, _key_folder(session, folder), key_id, secret.encode() if secret else None
        ),
    )


@keys_app.command("list")
def keys_list(folder: KeyFolder = None, output_format: FormatOption = Format.text) -> None:
    """List the public keys in your key folder."""
    from safeai_git.commands import keyring

    session = _session(output_format)
    _end(session, lambda: keyring.listing(session, _key_folder(session, folder)))


@keys_app.command("export")
def keys_export(
    key_id: KeyName = "default", folder: KeyFolder = None, output_format: FormatOption = Format.text
) -> None:
    """Print a public key as allowed_signers takes it."""
    from safeai_git.commands import keyring

    session = _session(output_format)
    _end(session, lambda: keyring.export(session, _key_folder(session, folder), key_id))


@hook_app.command("install")
def hook_install(
    yes: Annotated[
        bool, typer.Option("--yes", help="Keep a hook that is there and run it before ours.")
    ] = False,
) -> None:
    """Install the hooks in this clone; hooks that are there stay in force."""
    from safeai_git.commands import setup

    session = _session(Format.text)
    _end(session, lambda: setup.install(session, setup.Asker(yes), version=__version__))


@hook_app.command("uninstall")
def hook_uninstall() -> None:
    """Take our hooks out; what was there before is put back."""
    from safeai_git.commands import setup

    session = _session(Format.text)
    _end(session, lambda: setup.uninstall(session))


@hook_app.command("run", context_settings={"ignore_unknown_options": True})
def hook_run(
    name: Annotated[
        str,
        typer.Argument(
            help="pre-commit, commit-msg, post-commit, pre-push, pre-receive, update or post-receive."
        ),
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="What git passes to the hook.")] = None,
) -> None:
    """Run a hook, as git or pre-commit does."""
    from safeai_git.hook import run_hook

    raise _Parsed(lambda: run_hook(name, arguments or []))


def run(arguments: list[str]) -> int:
    """Parse the arguments and run the command; its exit code. Errors of ours come through."""
    try:
        app(args=arguments, prog_name="safeai-git", standalone_mode=True)
    except _Parsed as parsed:
        action = parsed.action
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 2
    else:
        return 2
    return action()
