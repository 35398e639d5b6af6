"""Asks a Governor, within a time, and believes nothing of the answer's size or form.

What an answer claims is checked by whoever asked; how it is brought, `client.web` says.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import Struct

from safeai_git.client.web import exchange, may_have_a_token, tls
from safeai_git.core import canonical
from safeai_git.core.display import safe_text
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, GovernorUnavailable, WrongUse
from safeai_git.core.finding import Decision
from safeai_git.core.incident import Incident
from safeai_git.core.log.proof import LogProof

MOST_AT_ONCE = 100
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of one batch of envelopes; a Governor takes 8 MiB by default."""


class Address(Struct, frozen=True):
    """Where a Governor is, and how to say who asks.

    Attributes:
        url: ``https://host[:port][/path]``; http only for this machine itself.
        token: Sent as a bearer token; empty for none.
        certificate: Files of a client certificate and its key; empty for none.

    Raises:
        WrongUse: The address is none that a token may be sent to.
    """

    url: str
    token: str = ""
    certificate: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not may_have_a_token(self.url):
            raise WrongUse(
                f"the Governor's address cannot be {safe_text(self.url[:200])}",
                hint="write https://HOST, without user, query or fragment; http:// only for this machine itself",
            )
        if any(not "!" <= one <= "~" for one in self.token):
            raise WrongUse(
                "the Governor's token holds a character that no token has", hint="copy it again, whole"
            )


class Accepted(Struct, frozen=True):
    """The Governor says that it has logged an envelope; `proof` is to be checked."""

    repeated: bool
    proof: LogProof


class Reported(Struct, frozen=True):
    """The Governor says that it has logged an incident; `proof` is to be checked, for an entry `by` that name."""

    repeated: bool
    by: str
    proof: LogProof


class Judged(Struct, frozen=True):
    """The Governor says how it decided; the proofs are to be checked.

    Attributes:
        decision: About the whole change, approvals counted.
        findings: Rule and sentence of each, fit for a terminal.
        verdicts: What it signed, each with its proof.
    """

    decision: Decision
    findings: tuple[tuple[str, str], ...]
    verdicts: tuple[tuple[Envelope, LogProof], ...]


class Refused(Struct, frozen=True):
    """The Governor does not take an envelope, or an incident.

    Attributes:
        word: The problem's word.
        detail: Its sentence, fit for a terminal.
    """

    word: str
    detail: str


class GovernorClient:
    """Asks one Governor.

    Args:
        address: Where it is.
        seconds: What one exchange may take, from the name's look-up to the last byte.
    """

    def __init__(self, address: Address, *, seconds: float) -> None:
        self._address = address
        self._seconds = seconds

    def submit(self, envelopes: Sequence[Envelope]) -> list[Accepted | Refused]:
        """Submit up to `MOST_AT_ONCE` envelopes; an answer for each, in their order.

        Raises:
            GovernorUnavailable: It did not answer in time, cannot take anything now, or knows nobody of that token.
            FormatError: What came back is no answer.
        """
        body = b'{"envelopes":[' + b",".join(one.format() for one in envelopes) + b"]}"
        data = self._json("POST", "/v1/verdicts", body)
        results = data.get("results") if isinstance(data, dict) else None
        if not isinstance(results, list) or len(results) != len(envelopes):
            raise FormatError(f"the Governor answered {len(envelopes)} envelopes with something else")
        return [_result(one, envelope) for one, envelope in zip(results, envelopes, strict=True)]

    def report(self, incidents: Sequence[Incident]) -> list[Reported | Refused]:
        """Report up to `MOST_AT_ONCE` incidents; an answer for each, in their order.

        Raises: as `submit` does.
        """
        body = b'{"incidents":[' + b",".join(one.format() for one in incidents) + b"]}"
        data = self._json("POST", "/v1/incidents", body)
        results = data.get("results") if isinstance(data, dict) else None
        if not isinstance(results, list) or len(results) != len(incidents):
            raise FormatError(f"the Governor answered {len(incidents)} incidents with something else")
        return [_reported(one) for one in results]

    def decide(self, repository: str, base: str, head: str, branch: str, bundle: bytes) -> Judged:
        """Have a change judged that a git bundle holds.

        Raises: as `submit` does; `FormatError` also where it does not judge this change.
        """
        asked = {"repository": repository, "base": base, "head": head, "branch": branch[:200]}
        path = f"/v1/decisions?{urlencode(asked)}"
        return _judged(_read(self._answer("POST", path, bundle, "application/x-git-bundle")))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The hashes that are to prove that the log only grew; they are to be checked.

        Raises: as `submit` does.
        """
        data = self._json("GET", f"/v1/consistency?from={old}&to={new}", None)
        match data:
            case {"hashes": list(hashes)} if len(hashes) <= 128:
                try:
                    return [b64decode(one, validate=True) for one in hashes]
                except (ValueError, TypeError) as error:
                    raise FormatError(f"the Governor's proof holds no hashes: {error}") from None
        raise FormatError("the Governor answered a question for a proof with something else")

    def lease(self, repository: str) -> bytes:
        """The line of the signed lease on the kill switch for one repository; it is to be checked.

        Raises: as `submit` does.
        """
        return self._answer("GET", f"/v1/kill-switch?repository={quote(repository, safe='')}", None)

    def policy(self) -> bytes:
        """The organisation's policy as it was published; it is to be checked.

        Raises: as `submit` does.
        """
        return self._answer("GET", "/v1/policy", None)

    def _json(self, method: str, path: str, body: bytes | None) -> Any:
        return _read(self._answer(method, path, body))

    def _answer(
        self, method: str, path: str, body: bytes | None, content_type: str = "application/json"
    ) -> bytes:
        headers = {
            "Content-Type": content_type,
            "User-Agent": "safeai-git",
            "Accept": "application/json",
        }
        if self._address.token:
            headers["Authorization"] = f"Bearer {self._address.token}"
        certificate = self._address.certificate
        context = tls(certificate=certificate) if certificate is not None else None
        url = self._address.url.rstrip("/") + path
        try:
            answer = exchange(method, url, body, headers, seconds=self._seconds, context=context)
        except TimeoutError:
            raise GovernorUnavailable(
                f"the Governor {self._shown} did not answer within {self._seconds:g} seconds", hint=_LATER
            ) from None
        except OSError as error:
            raise GovernorUnavailable(
                f"the Governor {self._shown} cannot be reached: {error}", hint=_LATER
            ) from None
        except FormatError as error:
            raise FormatError(f"the Governor {self._shown}: {error.message}") from None
        if not 200 <= answer.status < 300:
            raise self._refusal(answer.status, answer.body)
        return answer.body

    def _refusal(self, status: int, body: bytes) -> Exception:
        word, detail = _problem(body)
        if status == 401 and not self._address.token and self._address.certificate is None:
            return GovernorUnavailable(
                f"the Governor {self._shown} answers nobody without a token, and this machine has none for it",
                hint="set SAFEAI_TOKEN; for a repository whose jobs get none, as those of forks, whoever runs the Governor"
                " names it in SAFEAI_PUBLIC_REPOSITORIES",
            )
        said = f"the Governor {self._shown} answered {status}: {detail or word or 'no reason given'}"
        if status in (401, 403):
            return GovernorUnavailable(
                said,
                hint="SAFEAI_TOKEN has to be a token with the scopes verdicts:write and policy:read; on a server that"
                " reports what it finds on protected refs, incidents:write",
            )
        if status in (408, 429) or status >= 500:
            return GovernorUnavailable(said, hint=_LATER)
        return FormatError(said)

    @property
    def _shown(self) -> str:
        return safe_text(self._address.url)


_LATER = "the verdicts stay in the spool; 'safeai-git push' delivers them"


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise FormatError("the Governor's answer is no JSON") from None


def _problem(body: bytes) -> tuple[str, str]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(data, dict):
        return "", ""
    return str(data.get("type", "")).rsplit("/", 1)[-1][:40], safe_text(str(data.get("detail", ""))[:300])


def _result(data: Any, envelope: Envelope) -> Accepted | Refused:
    match data:
        case {"digest": str(digest), "repeated": bool(repeated), "receipt": str(receipt)}:
            if digest != envelope.digest:
                raise FormatError(
                    f"the Governor answered envelope {envelope.digest[:16]} with another one's receipt"
                )
            return Accepted(repeated, LogProof.parse(receipt.encode("utf-8", "replace")))
        case {"problem": dict(problem)}:
            word, detail = _problem(json.dumps(problem).encode())
            return Refused(word, detail)
    raise FormatError(f"the Governor's answer to envelope {envelope.digest[:16]} cannot be read")


def _reported(data: Any) -> Reported | Refused:
    match data:
        case {"repeated": bool(repeated), "by": str(by), "receipt": str(receipt)}:
            return Reported(repeated, by, LogProof.parse(receipt.encode("utf-8", "replace")))
        case {"problem": dict(problem)}:
            word, detail = _problem(json.dumps(problem).encode())
            return Refused(word, detail)
    raise FormatError("the Governor's answer to an incident cannot be read")


def _judged(data: Any) -> Judged:
    match data:
        case {
            "decision": "allow" | "review" | "deny" as decision,
            "findings": list(findings),
            "verdicts": list(verdicts),
        }:
            return Judged(decision, tuple(map(_finding, findings)), tuple(map(_verdict, verdicts)))
    raise FormatError("the Governor answered a change with something else than a decision")


def _finding(data: Any) -> tuple[str, str]:
    match data:
        case {"rule": str(rule), "message": str(message)}:
            return safe_text(rule[:100]), safe_text(message[:1_000])
    raise FormatError("a finding of the Governor's cannot be read")


def _verdict(data: Any) -> tuple[Envelope, LogProof]:
    match data:
        case {"envelope": dict(envelope), "receipt": str(receipt)}:
            proof = LogProof.parse(receipt.encode("utf-8", "replace"))
            return Envelope.parse(canonical.dumps(envelope)), proof
    raise FormatError("a verdict of the Governor's cannot be read")
