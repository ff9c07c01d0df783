"""The server's figures in Prometheus' text format."""

from jaxreloc.extras import extra
from jaxreloc.serving.answering.batching import Answer, BatchingWorker
from jaxreloc.serving.answering.map_shelf import MapShelf

with extra("serve"):
    import prometheus_client as prometheus

SECONDS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 3, 4, 6, 8)


class ServerMetrics:
    """Counts of one server; `text` is what /metrics answers."""

    content_type = prometheus.CONTENT_TYPE_LATEST

    def __init__(self, shelf: MapShelf, worker: BatchingWorker):
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._requests = prometheus.Counter(
            "jaxreloc_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = prometheus.Histogram(
            "jaxreloc_request_seconds",
            "From the first byte of a request to the last one of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._queries = prometheus.Counter(
            "jaxreloc_queries",
            "Pictures that were localized or refused.",
            ["map", "outcome"],
            registry=registry,
        )
        self._waited = prometheus.Histogram(
            "jaxreloc_wait_seconds", "In the queue.", buckets=SECONDS, registry=registry
        )
        self._batch = prometheus.Histogram(
            "jaxreloc_batch_size", "Queries of a batch.", buckets=SIZES, registry=registry
        )
        for name, text, value in [
            ("jaxreloc_waiting", "Queries in the queue.", lambda: worker.num_waiting),
            ("jaxreloc_open_maps", "Maps in memory.", lambda: len(shelf.open_maps())),
            (
                "jaxreloc_open_maps_bytes",
                "What these may take.",
                lambda: sum(x.num_bytes for x in shelf.open_maps()),
            ),
            ("jaxreloc_map_swaps", "Changed maps that were swapped.", lambda: shelf.num_swaps),
        ]:
            prometheus.Gauge(name, text, registry=registry).set_function(value)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request; the route has no names in it, so that there are few."""
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def query(self, map_name: str, answer: Answer) -> None:
        """Counts a localized picture."""
        outcome = "localized" if answer.found.success else "refused"
        self._queries.labels(map_name, outcome).inc()
        self._waited.observe(answer.waited_s)
        self._batch.observe(answer.batch)

    def text(self) -> bytes:
        """All of it."""
        return prometheus.generate_latest(self._registry)
