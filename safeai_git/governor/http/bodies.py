"""What the routes that change something share: bodies that are read strictly, names for the log, documents with an ETag."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from starlette.responses import Response

from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError
from safeai_git.core.policy_statement import parse_time
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.auth.principal import Principal
from safeai_git.governor.key_registry import Document
from safeai_git.governor.problem import Problem

T = TypeVar("T", bound=msgspec.Struct)

_LONGEST_NAME = 200
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def content_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def read_json(request: Request, kind: type[T]) -> T:
    """A body of one shape; members that it does not have are refused.

    Raises:
        Problem: Another media type, no JSON, or another shape.
    """
    if content_type(request) != "application/json":
        raise Problem("unsupported-media-type", "the body must be application/json")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed", f"the body is not of this kind: {error}") from None


def moment(text: str | None, name: str) -> int | None:
    """A time out of a body; ``None`` where it says nothing.

    Raises:
        Problem: It is no time.
    """
    if text is None:
        return None
    try:
        return parse_time(text)
    except FormatError as error:
        raise Problem("malformed", f"{name}: {error.message}", error.hint) from None


def name_of(principal: Principal) -> str:
    """Who asks, as it stands on the log: text for people, of bounded length, and never two people under one name."""
    name = safe_text(principal.subject)
    if name == principal.subject and 0 < len(name) <= _LONGEST_NAME:
        return name
    digest = sha256(principal.subject.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{name[:150]} ({digest})"


def holds(principal: Principal, scope: str) -> bool:
    """Whether a scope is granted for any repository."""
    return any(scope in grant.scopes for grant in principal.grants)


def need_anywhere(principal: Principal, *scopes: str) -> None:
    """Go on only with one of these scopes, for whatever repository: what is asked for is the same for all of them.

    Raises:
        Problem: None of them is granted.
    """
    if not any(holds(principal, scope) for scope in scopes):
        raise Problem("forbidden", f"{' or '.join(scopes)} is needed", "ask for a token with this scope")


def logged(receipt: Receipt, **more: Any) -> dict[str, Any]:
    """The answer to a change."""
    return {
        "index": receipt.index,
        "repeated": receipt.repeated,
        "receipt": receipt.proof().format().decode(),
        **more,
    }


def json_answer(data: Any, status: int = 200) -> Response:
    """Data as JSON."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def document_answer(request: Request, document: Document, media_type: str, cache: str) -> Response:
    """A document, or 304 to whoever has it (RFC 9110 §13.1.2)."""
    headers = {"ETag": document.etag, "Cache-Control": cache}
    asked = request.headers.get("if-none-match", "")
    if asked.strip() == "*" or document.etag in _TAG.findall(asked):
        return Response(status_code=304, headers=headers)
    return Response(document.data, media_type=media_type, headers=headers)
