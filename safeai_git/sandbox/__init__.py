"""The sandbox: the only place where foreign programs are started, in isolation or not at all."""

from __future__ import annotations

from safeai_git.sandbox.choice import choose, describe
from safeai_git.sandbox.port import Backend, Isolation, Job, Limits, Outcome, Report

__all__ = ["Backend", "Isolation", "Job", "Limits", "Outcome", "Report", "choose", "describe"]
