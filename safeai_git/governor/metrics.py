"""What the Governor counts, under the names that its users' alerts and dashboards ask for. Labels are bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from safeai_git.core.errors import KeyUnusable, SafeAIError
from safeai_git.core.incident import STATUSES
from safeai_git.core.rules import RULE_IDS
from safeai_git.governor.stores.port import covered

if TYPE_CHECKING:
    from safeai_git.governor.service import Governor

disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_AGES = (10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
_SLOW = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
_RULES = frozenset(RULE_IDS)


class Metrics:
    """The counters of one process; several threads may count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._governor: Governor | None = None
        self._checkpoint: tuple[int, float] = (0, 0.0)
        self._lock = threading.Lock()
        self.requests = Counter(
            "safeai_api_requests",
            "Requests answered, by status.",
            ["status", "route"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "safeai_api_request_seconds",
            "How long answers took.",
            ["route"],
            buckets=_FAST,
            registry=self.registry,
        )
        self.blocks = Counter(
            "safeai_policy_blocks",
            "Verdicts taken in that deny a change, by the worst finding's rule.",
            ["rule"],
            registry=self.registry,
        )
        self.verdicts = Counter(
            "safeai_verdicts", "Verdicts taken in, by decision.", ["decision"], registry=self.registry
        )
        self.verdict_age = Histogram(
            "safeai_verdict_age_seconds",
            "How old verdicts said to be when they were logged: mostly the time in a client's spool.",
            buckets=_AGES,
            registry=self.registry,
        )
        self.sandbox_runs = Counter(
            "safeai_sandbox_executions",
            "Checks that this Governor ran in its sandbox, by exit code; 'none' where it was stopped.",
            ["exit_code"],
            registry=self.registry,
        )
        self.sandbox_seconds = Histogram(
            "safeai_sandbox_seconds", "How long those took.", buckets=_SLOW, registry=self.registry
        )
        self.append_seconds = Histogram(
            "safeai_log_append_seconds",
            "How long a batch of entries took until it was durable and signed.",
            buckets=_FAST,
            registry=self.registry,
        )
        self.sync_seconds = Histogram(
            "safeai_log_sync_seconds",
            "How long the disk took to sync a batch; the file store's.",
            buckets=_FAST,
            registry=self.registry,
        )
        self.refusals = Counter(
            "safeai_authentication_failures",
            "Requests of nobody that we know, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.signing_failures = Counter(
            "safeai_signing_failures",
            "Times that the signing key could not be used.",
            registry=self.registry,
        )
        self.unverified = Counter(
            "safeai_commits_without_verdict",
            "Commits that servers reported on protected refs without a verdict that lets them pass, by what is wrong.",
            ["status"],
            registry=self.registry,
        )
        self.witness_answers = Counter(
            "safeai_witness_requests",
            "What came of asking a witness of the policy: cosigned, unreachable, refused, wrong or ahead.",
            ["witness", "result"],
            registry=self.registry,
        )
        self.sandbox_runs.labels("0")
        for status in STATUSES:
            self.unverified.labels(status)  # an alert sees the first only where it stood at nought before
        self.registry.register(self)  # a collector is whatever has `collect`

    def watch(self, governor: Governor) -> None:
        """From now on tell about this Governor's log, too."""
        self._governor = governor

    def batch(self, seconds: float, error: SafeAIError | None) -> None:
        """Count a batch of the log."""
        self.append_seconds.observe(seconds)
        if isinstance(error, KeyUnusable):
            self.signing_failures.inc()

    def witness(self, name: str, result: str) -> None:
        """Count what came of asking a witness; both are of closed lists, the policy's and `RESULTS`."""
        self.witness_answers.labels(name, result).inc()

    def blocked(self, rule: str) -> None:
        """Count a verdict that denies."""
        self.blocks.labels(rule if rule in _RULES else "policy").inc()

    def without_verdict(self, statuses: Iterable[str]) -> None:
        """Count commits that a server reported."""
        for status in statuses:
            self.unverified.labels(status).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What is looked up when somebody asks."""
        governor = self._governor
        if governor is None:
            return
        log, store = governor.log, governor.log.store
        yield _gauge(
            "safeai_kill_switch_active",
            "1 while any kill switch is engaged.",
            governor.services.switches.active,
        )
        yield _gauge("safeai_log_entries", "Entries of the log.", store.size)
        yield _gauge("safeai_log_waiting", "Entries that wait to become durable.", log.waiting)
        yield _gauge(
            "safeai_log_failed",
            "1 when the log takes nothing any more, or is not well.",
            log.failure is not None,
        )
        yield _gauge(
            "safeai_log_following_failed",
            "1 when what follows from the log (keys, policy, kill switches) cannot be kept up to date.",
            governor.services.records.follower.failure is not None,
        )
        yield _gauge(
            "safeai_log_unread_entries",
            "Entries that the start took from audit.index, and that nobody has read since.",
            store.unheld,
        )
        size, since = self._newest(store.published)
        yield _gauge("safeai_log_checkpoint_size", "Entries under the newest signed checkpoint.", size)
        yield _gauge(
            "safeai_log_checkpoint_timestamp_seconds",
            "When this process first saw the newest checkpoint, in Unix time.",
            since,
        )
        if governor.witnesses is not None:
            yield _gauge(
                "safeai_log_witnessed_size",
                "Entries under the newest checkpoint that the witnesses' quorum has cosigned.",
                governor.witnesses.size,
            )
        yield _gauge("safeai_data_free_bytes", "Free space in the data folder.", governor.free_bytes())

    def _newest(self, note: bytes | None) -> tuple[int, float]:
        size = covered(note)
        with self._lock:
            if self._checkpoint[0] != size and self._governor is not None:
                self._checkpoint = (size, self._governor.services.records.now())
            return self._checkpoint


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
