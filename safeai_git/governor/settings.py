"""The Governor's settings: environment variables, each named once, with its meaning.

`VARIABLES` is the one list: manifests, Compose files and documentation are compared with it. A value that makes no
sense stops the start and is named; a variable of ours that is not in the list is taken for a slip of the pen and
stops it too. Secrets may stand in a file: ``NAME_FILE`` instead of ``NAME``.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.kill_switch import Scope
from safeai_git.core.log.note import NoteKey

PREFIX = "SAFEAI_"
_MOST_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        name: As it is set.
        field: The attribute of `Settings` that it fills.
        meaning: A sentence for the documentation.
        default: What holds where it is not set, as it would be written.
        read: Turns the text into the value; raises `ValueError` with what is wrong.
        secret: Never shown; may stand in a file that ``NAME_FILE`` names.
    """

    name: str
    field: str
    meaning: str
    default: str
    read: Callable[[str], object]
    secret: bool = False


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("it is 'on' or 'off'")
    return text == "on"


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"it is one of {', '.join(allowed)}")
        return text

    return read


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text[:12]) <= high:
            raise ValueError(f"it is a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _url(text: str) -> str:
    if not text:
        return ""
    parts = urlsplit(text)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError("it is an https:// address; http:// only for this machine itself")
    return text


def _origin(text: str) -> str:
    if text and (any(one.isspace() for one in text) or "+" in text or "://" in text):
        raise ValueError("it is a name such as governor.example/safeai, without a scheme, blanks or '+'")
    return text


def _log_keys(text: str) -> tuple[NoteKey, ...]:
    try:
        return tuple(NoteKey.bounded(one) for one in text.split())
    except FormatError as error:
        raise ValueError(error.message) from None


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _names(text: str) -> frozenset[str]:
    names = frozenset(text.replace(",", " ").split())
    for name in names:
        try:
            Scope("repository", name)
        except WrongUse as error:
            raise ValueError(error.message) from None
    return names


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


VARIABLES: tuple[Variable, ...] = (
    Variable("SAFEAI_ENABLE", "enabled", "'off' starts with the global kill switch engaged.", "on", _switch),
    Variable("SAFEAI_DATA_DIR", "data_dir", "Folder of the audit log and the keys.", ".", Path),
    Variable(
        "SAFEAI_CONFIG_DIR",
        "config_dir",
        "Folder of policy.yaml, the organisation's first policy.",
        "/app/config",
        Path,
    ),
    Variable(
        "SAFEAI_LOG_LEVEL",
        "log_level",
        "DEBUG, INFO, WARNING or ERROR.",
        "INFO",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    Variable(
        "SAFEAI_HOST",
        "host",
        "Address to listen on. Without any authentication only a loopback address is taken.",
        "",
        str,
    ),
    Variable("SAFEAI_PORT", "port", "TCP port.", "8000", _number(0, 65_535)),
    Variable(
        "SAFEAI_KEY_ID",
        "key_id",
        "Name of the signing key in DATA_DIR/keys, or a reference: vault://MOUNT/NAME?version=N, awskms:///KEY.",
        "default",
        str,
    ),
    Variable(
        "SAFEAI_LOG_ORIGIN",
        "log_origin",
        "Name of the log on its checkpoints; it must never change.",
        "",
        _origin,
    ),
    Variable(
        "SAFEAI_LOG_KEYS",
        "log_keys",
        "Verifier keys, by blanks, that the log was signed with before its present key; @SIZE behind one bounds it.",
        "",
        _log_keys,
    ),
    Variable(
        "SAFEAI_DATABASE_URL",
        "database_url",
        "PostgreSQL to keep the log in; empty for the file audit.log.",
        "",
        str,
        secret=True,
    ),
    Variable(
        "SAFEAI_WITNESS_POLICY",
        "witness_policy",
        "C2SP witness policy: whom to have the log's checkpoints cosigned by.",
        "",
        _path,
    ),
    Variable(
        "SAFEAI_READ_LOG_FIRST",
        "read_log_first",
        "'on': a start reads all of audit.log before it serves; 'off': what audit.index does not vouch for, the rest afterwards.",
        "off",
        _switch,
    ),
    Variable(
        "SAFEAI_WITNESS_REQUIRED",
        "witness_required",
        "'on': nothing is published and no verdict acknowledged before the policy's quorum has cosigned.",
        "off",
        _switch,
    ),
    Variable(
        "SAFEAI_JWT_ALGORITHM",
        "jwt_algorithm",
        "The only algorithm that tokens of our own may have.",
        "HS256",
        _one_of("HS256", "RS256", "EdDSA"),
    ),
    Variable(
        "SAFEAI_JWT_SECRET", "jwt_secret", "Secret of HS256 tokens, 32 bytes or more.", "", str, secret=True
    ),
    Variable("SAFEAI_JWT_PUBLIC_KEY", "jwt_public_key", "PEM of RS256 or EdDSA tokens.", "", str),
    Variable(
        "SAFEAI_JWT_PRIVATE_KEY",
        "jwt_private_key",
        "PEM to issue tokens with; serving does not need it.",
        "",
        str,
        secret=True,
    ),
    Variable("SAFEAI_JWT_JWKS_URL", "jwt_jwks_url", "Where the public keys are, instead.", "", _url),
    Variable("SAFEAI_JWT_ISSUER", "jwt_issuer", "Issuer of tokens of our own.", "safeai-governor", str),
    Variable("SAFEAI_JWT_AUDIENCE", "jwt_audience", "Audience that they must name.", "safeai-governor", str),
    Variable(
        "SAFEAI_JWT_LEEWAY_SECONDS",
        "jwt_leeway_seconds",
        "By how much the clock of an issuer may differ.",
        "30",
        _number(0, 300),
    ),
    Variable(
        "SAFEAI_OIDC_RULES",
        "oidc_rules",
        "File that says which CI jobs may ask for what, by the claims of their tokens.",
        "",
        _path,
    ),
    Variable("SAFEAI_TLS_CERT", "tls_cert", "Certificate chain of the server (PEM).", "", _path),
    Variable("SAFEAI_TLS_KEY", "tls_key", "Its private key (PEM).", "", _path),
    Variable("SAFEAI_TLS_CLIENT_CA", "tls_client_ca", "Authority of client certificates (PEM).", "", _path),
    Variable(
        "SAFEAI_CERTIFICATE_RULES",
        "certificate_rules",
        "File that says which client certificate may ask for what.",
        "",
        _path,
    ),
    Variable(
        "SAFEAI_TRUSTED_PROXIES",
        "trusted_proxies",
        "Networks of the ingress whose client certificate headers count.",
        "",
        _networks,
    ),
    Variable(
        "SAFEAI_MAX_BODY_BYTES",
        "max_body_bytes",
        "Largest body of a request.",
        "8388608",
        _number(65_536, 268_435_456),
    ),
    Variable(
        "SAFEAI_MAX_CONNECTIONS",
        "max_connections",
        "Connections at once; past it a new one is answered with 503.",
        "4096",
        _number(16, 100_000),
    ),
    Variable(
        "SAFEAI_HEAD_SECONDS",
        "head_seconds",
        "How long the head of a request may take to arrive.",
        "10",
        _number(1, 300),
    ),
    Variable(
        "SAFEAI_BODY_SECONDS",
        "body_seconds",
        "How long the body of a request may take to arrive.",
        "20",
        _number(1, 3_600),
    ),
    Variable("SAFEAI_MAX_BATCH", "max_batch", "Most verdicts of one request.", "1000", _number(1, 10_000)),
    Variable(
        "SAFEAI_MAX_OUTSTANDING",
        "max_outstanding",
        "Entries that may wait to become durable; past it the answer is 503.",
        "4096",
        _number(1, 1_000_000),
    ),
    Variable(
        "SAFEAI_REQUESTS_PER_MINUTE",
        "requests_per_minute",
        "Most requests of one subject in a minute; 0 for no limit.",
        "6000",
        _number(0, 10_000_000),
    ),
    Variable(
        "SAFEAI_REPLAY_CHECKS",
        "replay_checks",
        "'on': checks that a policy asks for run in this Governor's sandbox before it decides on a change.",
        "off",
        _switch,
    ),
    Variable(
        "SAFEAI_TRACES",
        "traces",
        "'on': send OpenTelemetry traces of requests to where OTEL_EXPORTER_OTLP_ENDPOINT says (extra [otel]).",
        "off",
        _switch,
    ),
    Variable(
        "SAFEAI_LEASE_SECONDS",
        "lease_seconds",
        "Age at which a kill-switch lease counts for nothing.",
        "900",
        _number(10, 86_400),
    ),
    Variable(
        "SAFEAI_PUBLIC_REPOSITORIES",
        "public_repositories",
        "Repositories, by blanks, whose kill-switch lease anybody may read, without the reason: jobs of forks have no token.",
        "",
        _names,
    ),
    Variable(
        "SAFEAI_RELEASE_NEEDS_SECOND_PERSON",
        "release_needs_second_person",
        "'on': whoever engaged a kill switch cannot release it.",
        "off",
        _switch,
    ),
    Variable(
        "SAFEAI_FORWARD_TO",
        "forward_to",
        "Where 'safeai audit forward' delivers: syslog+tls://, syslog+tcp://, otlp+https://, webhook+https:// or file://.",
        "",
        str,
        secret=True,
    ),
    Variable(
        "SAFEAI_FORWARD_FORMAT",
        "forward_format",
        "What syslog messages and lines of a file say: json or cef.",
        "json",
        _one_of("json", "cef"),
    ),
    Variable(
        "SAFEAI_FORWARD_CURSOR",
        "forward_cursor",
        "File that keeps what was acknowledged; forward.cursor in DATA_DIR if empty.",
        "",
        _path,
    ),
    Variable(
        "SAFEAI_FORWARD_HEADERS",
        "forward_headers",
        "Headers of OTLP and webhooks, such as Authorization: one 'Name: value' a line.",
        "",
        str,
        secret=True,
    ),
    Variable(
        "SAFEAI_FORWARD_SECRET",
        "forward_secret",
        "Secret that webhooks are signed with, 24 bytes or more.",
        "",
        str,
        secret=True,
    ),
    Variable(
        "SAFEAI_FORWARD_CA",
        "forward_ca",
        "Authority of the destination's certificate (PEM), instead of the system's.",
        "",
        _path,
    ),
    Variable(
        "SAFEAI_FORWARD_CERT",
        "forward_cert",
        "Certificate to show to the destination (PEM).",
        "",
        _path,
    ),
    Variable("SAFEAI_FORWARD_KEY", "forward_key", "Its private key (PEM).", "", _path),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one Governor; see `VARIABLES` for each."""

    enabled: bool
    data_dir: Path
    config_dir: Path
    log_level: str
    host: str
    port: int
    key_id: str
    log_origin: str
    log_keys: tuple[NoteKey, ...]
    database_url: str
    witness_policy: Path | None
    read_log_first: bool
    witness_required: bool
    jwt_algorithm: str
    jwt_secret: str
    jwt_public_key: str
    jwt_private_key: str
    jwt_jwks_url: str
    jwt_issuer: str
    jwt_audience: str
    jwt_leeway_seconds: int
    oidc_rules: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    certificate_rules: Path | None
    trusted_proxies: tuple[Network, ...]
    max_body_bytes: int
    max_connections: int
    head_seconds: int
    body_seconds: int
    max_batch: int
    max_outstanding: int
    requests_per_minute: int
    replay_checks: bool
    traces: bool
    lease_seconds: int
    public_repositories: frozenset[str]
    release_needs_second_person: bool
    forward_to: str
    forward_format: str
    forward_cursor: Path | None
    forward_headers: str
    forward_secret: str
    forward_ca: Path | None
    forward_cert: Path | None
    forward_key: Path | None

    def __repr__(self) -> str:
        """Without the secrets: this ends up in logs."""
        hidden = {variable.field for variable in VARIABLES if variable.secret}
        values = ((one.name, getattr(self, one.name)) for one in fields(self))
        shown = (f"{name}={'***' if name in hidden and value else repr(value)}" for name, value in values)
        return f"Settings({', '.join(shown)})"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment.

    Raises:
        WrongUse: A variable's value makes no sense, is given twice, or the variable is none of ours.
    """
    settings, slips = look_at(environ)
    if slips:
        raise slips[0].error
    return settings


@dataclass(frozen=True, slots=True)
class Slip:
    """What is wrong with a setting.

    Attributes:
        variable: Its name, or the first of those that contradict each other.
        error: What `read_settings` would say of it.
    """

    variable: str
    error: WrongUse


def look_at(environ: Mapping[str, str]) -> tuple[Settings, list[Slip]]:
    """Read what can be read: the settings, with the default where a value makes no sense, and everything that is wrong."""
    slips = list(_strangers(environ))
    values: dict[str, object] = {}
    for variable in VARIABLES:
        try:
            values[variable.field] = _value(variable, environ)
        except WrongUse as error:
            slips.append(Slip(variable.name, error))
            values[variable.field] = variable.read(variable.default)
    settings = Settings(**values)  # type: ignore[arg-type]  # the table above fills every field, and a test says so
    wrong = {slip.variable for slip in slips}
    slips += (slip for slip in _contradictions(settings) if slip.variable not in wrong)
    return settings, slips


def _value(variable: Variable, environ: Mapping[str, str]) -> object:
    text = _text(variable, environ)
    try:
        return variable.read(text)
    except ValueError as error:
        shown = "its value" if variable.secret else repr(text[:80])
        raise WrongUse(f"{variable.name} cannot be {shown}: {error}") from None


def _text(variable: Variable, environ: Mapping[str, str]) -> str:
    given = environ.get(variable.name)
    place = environ.get(f"{variable.name}_FILE") if variable.secret else None
    if place is None:
        return variable.default if given is None else given.strip()
    if given is not None:
        raise WrongUse(
            f"{variable.name} and {variable.name}_FILE are both set", hint="keep the one that you mean"
        )
    try:
        with Path(place).open(encoding="utf-8") as file:
            text = file.read(_MOST_SECRET_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"{variable.name}_FILE cannot be read: {error}") from None
    if len(text) > _MOST_SECRET_BYTES:
        raise WrongUse(f"{variable.name}_FILE holds more than {_MOST_SECRET_BYTES:,} characters")
    return text.strip()


def _strangers(environ: Mapping[str, str]) -> Iterator[Slip]:
    known = {variable.name for variable in VARIABLES}
    known |= {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
    for name in sorted(environ):
        # Kubernetes sets SAFEAI_…_SERVICE_HOST and the like for a Service whose name begins so.
        if name.startswith(PREFIX) and name not in known and "_SERVICE_" not in name and "_PORT_" not in name:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else ""
            yield Slip(name, WrongUse(f"{name} is no setting of the Governor", hint=hint))


def _contradictions(settings: Settings) -> Iterator[Slip]:
    def slip(variable: str, rest: str) -> Slip:
        return Slip(variable, WrongUse(f"{variable} {rest}"))

    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield slip("SAFEAI_TLS_CERT", "and SAFEAI_TLS_KEY need each other")
    if settings.tls_client_ca and not settings.tls_cert:
        yield slip(
            "SAFEAI_TLS_CLIENT_CA", "needs SAFEAI_TLS_CERT: clients are asked for theirs by our own TLS"
        )
    if settings.witness_required and settings.witness_policy is None:
        yield slip("SAFEAI_WITNESS_REQUIRED", "needs SAFEAI_WITNESS_POLICY, which names the witnesses")
    if settings.jwt_public_key and settings.jwt_jwks_url:
        yield slip(
            "SAFEAI_JWT_PUBLIC_KEY", "and SAFEAI_JWT_JWKS_URL are both set: keep the one that you mean"
        )
