"""A Kubernetes API on loopback, as much of it as Traefik's Ingress provider asks for: list and watch, read-only.

Owns: the wire format, watches, EndpointSlices (in a cluster a controller writes them). Does not own: which objects
there are (`read.home`), nor what they mean: Traefik's own code reads them, nothing here translates a route.
"""

import copy
import json
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

from lab.errors import LabError

KINDS: Final = {
    "/apis/networking.k8s.io/v1/ingresses": ("networking.k8s.io/v1", "Ingress"),
    "/apis/networking.k8s.io/v1/ingressclasses": ("networking.k8s.io/v1", "IngressClass"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "/api/v1/services": ("v1", "Service"),
    "/api/v1/secrets": ("v1", "Secret"),
    "/api/v1/nodes": ("v1", "Node"),
}
"""URL path -> apiVersion and kind. Nothing else is answered."""
_CREATED: Final = "2026-01-01T00:00:00Z"
_POLL_S: Final = 1.0
"""How often an idle watch looks whether it was stopped, seconds; events themselves wake it at once."""

Object = dict[str, Any]


class KubernetesApi:
    """Serves `objects` and the endpoints set later, until stopped. Start and stop once; safe to use from any thread."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._changed = threading.Condition()
        self._version = 1
        self._stopped = False
        self._store: dict[str, dict[str, Object]] = {kind: {} for _, kind in KINDS.values()}
        self._events: list[tuple[int, str, str, Object]] = []
        self.unanswered: list[str] = []
        """Requests this stand-in has no answer for (method and path); a list that isn't empty means it is too small."""
        for item in objects:
            if item["kind"] in self._store:
                self._put(copy.deepcopy(item))
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="kubernetes-api", daemon=True
        )

    @property
    def url(self) -> str:
        """Address for `--providers.kubernetesingress.endpoint`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listens on a free loopback port (bound since construction)."""
        self._thread.start()

    def stop(self) -> None:
        """Ends every watch and closes the port."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "KubernetesApi":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set_endpoint(self, service: str, address: str | None, *, namespace: str | None = None) -> None:
        """The pod behind `service` answers at `address` (`127.0.0.1:8000`), or is not ready (None)."""
        with self._changed:
            found = [
                item
                for item in self._store["Service"].values()
                if item["metadata"]["name"] == service and namespace in (None, item["metadata"].get("namespace"))
            ]
            if len(found) != 1:
                raise LabError(
                    f"the cluster has {len(found)} Services named {service!r}, an endpoint needs exactly one"
                )
            metadata = found[0]["metadata"]
            ports = found[0]["spec"]["ports"]
            if len(ports) != 1:
                raise LabError(f"Service {service!r} has {len(ports)} ports; the lab starts one process per pod")
            host, _, port = (address or "").rpartition(":")
            self._put(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": f"{service}-lab",
                        "namespace": metadata.get("namespace", "default"),
                        "labels": {"kubernetes.io/service-name": service},
                    },
                    "addressType": "IPv4",
                    "ports": [{"name": ports[0].get("name", ""), "port": int(port or 0), "protocol": "TCP"}]
                    if address
                    else [],
                    "endpoints": [
                        {"addresses": [host], "conditions": {"ready": True, "serving": True, "terminating": False}}
                    ]
                    if address
                    else [],
                }
            )

    def _put(self, item: Object) -> None:
        """Adds or replaces an object and tells the watches."""
        with self._changed:
            metadata = item["metadata"]
            key = f"{metadata.get('namespace', '')}/{metadata['name']}"
            store = self._store[item["kind"]]
            self._version += 1
            metadata.update(
                uid=f"lab-{item['kind']}-{key}", resourceVersion=str(self._version), creationTimestamp=_CREATED
            )
            self._events.append((self._version, "MODIFIED" if key in store else "ADDED", item["kind"], item))
            store[key] = item
            self._changed.notify_all()

    def listing(self, api_version: str, kind: str) -> Object:
        """The answer to a list request."""
        with self._changed:
            return {
                "apiVersion": api_version,
                "kind": f"{kind}List",
                "metadata": {"resourceVersion": str(self._version)},
                "items": list(self._store[kind].values()),
            }

    def initial(self, api_version: str, kind: str) -> tuple[int, list[Object]]:
        """The start of a streamed list (`sendInitialEvents`): every object, then the bookmark that ends it."""
        with self._changed:
            added = [{"type": "ADDED", "object": item} for item in self._store[kind].values()]
            mark = {
                "apiVersion": api_version,
                "kind": kind,
                "metadata": {
                    "resourceVersion": str(self._version),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                },
            }
            return self._version, [*added, {"type": "BOOKMARK", "object": mark}]

    def wait(self, kind: str, after: int) -> tuple[int, list[Object], bool]:
        """Events of `kind` newer than `after`, waiting a moment for the first: (version, events, stopped)."""
        with self._changed:
            if self._version <= after and not self._stopped:
                self._changed.wait(_POLL_S)
            events = [
                {"type": event, "object": item}
                for version, event, of, item in self._events
                if version > after and of == kind
            ]
            return self._version, events, self._stopped


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away ends its watch; that is no error worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        known = KINDS.get(parts.path)
        if known is None:
            self._refuse()
            return
        query = parse_qs(parts.query)
        if query.get("watch", ["0"])[0] in ("1", "true"):
            self._watch(*known, query)
        else:
            self._json(HTTPStatus.OK, self._api.listing(*known))

    def do_POST(self) -> None:
        self._refuse()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `unanswered` holds what matters."""

    @property
    def _api(self) -> KubernetesApi:
        return cast(_Server, self.server).api

    def _watch(self, api_version: str, kind: str, query: dict[str, list[str]]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if query.get("sendInitialEvents", ["false"])[0] == "true":
            version, events = self._api.initial(api_version, kind)
        else:
            version, events = int(query.get("resourceVersion", ["0"])[0] or 0), []
        stopped = False
        while not stopped:
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
            version, events, stopped = self._api.wait(kind, version)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _refuse(self) -> None:
        """What this stand-in doesn't have: writes, and every other kind."""
        self._api.unanswered.append(f"{self.command} {self.path}")
        status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
        self._json(HTTPStatus.NOT_FOUND, status)
        self.close_connection = True

    def _json(self, status: HTTPStatus, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
