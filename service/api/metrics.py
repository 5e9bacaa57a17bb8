"""Numbers for Prometheus: requests by route template and status, jobs by state. No identifier of any kind."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.ledger import Ledger

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _Jobs(Collector):
    """Jobs by state, counted in the ledger at every scrape."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metric without asking the ledger."""
        yield GaugeMetricFamily("radfuse_jobs", "Jobs in the ledger by state.", labels=["state"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count."""
        family = GaugeMetricFamily("radfuse_jobs", "Jobs in the ledger by state.", labels=["state"])
        for state, count in self._ledger.count_states().items():
            family.add_metric([state.value], count)
        yield family


class Metrics:
    """One registry per application."""

    def __init__(self, ledger: Ledger) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Jobs(ledger))
        self._requests = Counter(
            "radfuse_http_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "radfuse_http_request_seconds",
            "Time from the request's header to the end of the answer.",
            ["route"],
            buckets=BOUNDS_SECONDS,
            registry=self._registry,
        )
        self._bytes = Counter("radfuse_upload_bytes", "Bytes of accepted files.", registry=self._registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a template, never a path."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_upload(self, size_bytes: int) -> None:
        """Count the bytes of an accepted case."""
        self._bytes.inc(size_bytes)

    def render(self) -> bytes:
        """Return the text exposition format."""
        return generate_latest(self._registry)
