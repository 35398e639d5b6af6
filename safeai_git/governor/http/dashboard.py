"""One page for people: is it well, how large is the log, is a kill switch engaged. No script, nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from safeai_git import __version__
from safeai_git.core.display import safe_text
from safeai_git.governor.service import Governor
from safeai_git.governor.stores.port import covered

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "h1{font-size:1.4rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1.5rem}dt{color:#57606a}"
    "dd{margin:0;overflow-wrap:anywhere}.ok{color:#116329}.bad{color:#a40e26;font-weight:600}pre{background:#f6f8fa;"
    "padding:1rem;overflow-x:auto}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}dt{color:#8b949e}"
    "pre{background:#161b22}.ok{color:#56d364}.bad{color:#ff7b72}}"
)
POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)


def page(governor: Governor) -> str:
    """The page as HTML. It names no repository and nobody: whoever reaches the port can read it."""
    note = governor.checkpoint() or b""
    size = covered(note)
    why = governor.not_ready()
    state = f'<span class="bad">not ready: {_text(why)}</span>' if why else '<span class="ok">ready</span>'
    engaged = len(governor.services.switches.engaged())
    switch = (
        f'<span class="bad">{engaged} engaged</span>' if engaged else '<span class="ok">not engaged</span>'
    )
    policy = governor.services.records.state.policy
    facts = {
        "State": state,
        "Kill switch": switch,
        "Log": _text(governor.origin),
        "Verifier key": _text(governor.verifier),
        "Entries under the newest checkpoint": f"{size:,}",
        "Policy": f"version {policy.statement.version}" if policy else "none is published",
        "Version": _text(__version__),
    }
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{value}</dd>" for name, value in facts.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>safeai-git Governor</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>safeai-git Governor</h1><dl>{rows}</dl><h2>Newest checkpoint</h2>"
        f"<pre>{_text(note.decode('utf-8', 'replace'), newlines=True)}</pre></body></html>\n"
    )


def _text(text: str, *, newlines: bool = False) -> str:
    return escape(safe_text(text, newlines=newlines))
