"""Examines one thing after the other; what one of them cannot do stops none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from safeai_git.core.errors import SafeAIError
from safeai_git.governor.doctor import (
    access,
    database,
    folder,
    followed,
    key,
    log_file,
    machine,
    others,
    running,
)
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.settings import look_at

Examiner = Callable[[Case], Iterator[Examined]]

_FOLDER = frozenset({"SAFEAI_DATA_DIR"})
_LOG = _FOLDER | {"SAFEAI_DATABASE_URL", "SAFEAI_LOG_ORIGIN", "SAFEAI_LOG_KEYS"}

EXAMINERS: tuple[tuple[str, Examiner, frozenset[str]], ...] = (
    ("versions", machine.versions, frozenset()),
    ("settings", machine.settings, frozenset()),
    ("files", machine.secret_files, frozenset()),
    ("data folder", folder.examine, _FOLDER),
    ("key", key.examine, _FOLDER | {"SAFEAI_KEY_ID"}),
    ("server", running.examine, _FOLDER | {"SAFEAI_HOST", "SAFEAI_PORT"}),
    ("copies", others.copies, _FOLDER | {"SAFEAI_FORWARD_TO", "SAFEAI_FORWARD_CURSOR"}),
    (
        "database",
        database.examine,
        frozenset({"SAFEAI_DATABASE_URL", "SAFEAI_LOG_ORIGIN", "SAFEAI_LOG_KEYS"}),
    ),
    ("log", log_file.examine, _LOG),
    ("verifier key", key.verifier, _LOG | {"SAFEAI_KEY_ID"}),
    ("keys and policy", followed.examine, _LOG),
    ("first policy", machine.first_policy, frozenset()),
    (
        "tokens",
        access.tokens,
        frozenset(
            {
                *(
                    "SAFEAI_JWT_ALGORITHM",
                    "SAFEAI_JWT_SECRET",
                    "SAFEAI_JWT_PUBLIC_KEY",
                    "SAFEAI_JWT_JWKS_URL",
                ),
                *("SAFEAI_JWT_LEEWAY_SECONDS", "SAFEAI_TRUSTED_PROXIES", "SAFEAI_HOST"),
            }
        ),
    ),
    ("client certificates", access.certificates, frozenset({"SAFEAI_TRUSTED_PROXIES"})),
    ("TLS", access.own_tls, frozenset({"SAFEAI_TLS_CERT", "SAFEAI_TLS_CLIENT_CA"})),
    ("witnesses", others.witnesses, _LOG | {"SAFEAI_WITNESS_REQUIRED"}),
    ("archive", others.archive, frozenset()),
    ("forwarding", others.forwarding, _LOG | {"SAFEAI_FORWARD_TO", "SAFEAI_FORWARD_FORMAT"}),
    ("sandbox", machine.sandbox, frozenset({"SAFEAI_REPLAY_CHECKS"})),
    ("open files", machine.files_limit, frozenset({"SAFEAI_MAX_CONNECTIONS"})),
    ("clock", machine.clock, frozenset()),
)
"""Name, examiner, and the settings without which it would look at the wrong thing."""


def doctor(environ: Mapping[str, str], *, now: float, archive: str = "") -> list[Examined]:
    """Examine the Governor that an environment describes. Changes nothing.

    Args:
        environ: As ``safeai serve`` would be given it.
        now: Seconds since 1970.
        archive: Where the log is archived: a folder or ``s3://BUCKET/PREFIX``; empty for nowhere.
    """
    settings, slips = look_at(environ)
    case = Case(settings, slips, environ, now, archive)
    wrong = {slip.variable for slip in slips}
    found: list[Examined] = []
    for name, examine, needs in EXAMINERS:
        if blocked := sorted(needs & wrong):
            found.append(Examined(name, "unknown", f"{blocked[0]} comes first"))
            continue
        try:
            found.extend(examine(case))
        except SafeAIError as error:
            found.append(of_error(name, error))
        except ModuleNotFoundError as error:
            hint = f"pip install 'safeai-git[{'aws' if error.name in ('boto3', 'botocore') else 'governor'}]'"
            found.append(Examined(name, "unknown", f"{error.name} is not installed", hint))
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            hint = "run it as the server's user" if isinstance(error, PermissionError) else ""
            found.append(Examined(name, "unknown", f"{error.strerror or error}{place}", hint))
    return found
