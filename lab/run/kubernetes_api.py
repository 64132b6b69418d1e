"""A Kubernetes API on loopback, as much of it as Traefik's Ingress provider asks for: list and watch, read-only.

Owns: the wire format, watches, EndpointSlices (in a cluster a controller writes them). Does not own: which objects
there are (`read.home`), nor what they mean: Traefik's own code reads them, nothing here translates a route.
"""

import asyncio
import copy
import json
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

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

Object = dict[str, Any]


class KubernetesApi:
    """Serves `objects` and the endpoints set later, until stopped. Start and stop once, in one event loop."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._version = 1
        self._store: dict[str, dict[str, Object]] = {kind: {} for _, kind in KINDS.values()}
        self._events: list[tuple[int, str, Object]] = []
        """Version, kind and event of every change so far."""
        self._watches: dict[str, set[asyncio.Queue[Object | None]]] = {kind: set() for _, kind in KINDS.values()}
        """Kind -> the events that each watch has still to send; None ends a watch."""
        self.unanswered: list[str] = []
        """Requests this stand-in has no answer for (method and path); a list that isn't empty means it is too small."""
        for item in objects:
            if item["kind"] in self._store:
                self._put(copy.deepcopy(item))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)

    @property
    def url(self) -> str:
        """Address for `--providers.kubernetesingress.endpoint`, once started."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def start(self) -> None:
        """Listens on a free loopback port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        """Ends every watch and closes the port."""
        for watches in self._watches.values():
            for watch in watches:
                watch.put_nowait(None)
        await self._runner.cleanup()

    def set_endpoint(
        self, service: str, address: str | None, *, namespace: str | None = None, pod: str = "pod"
    ) -> None:
        """The pod behind `service` answers at `address` (`127.0.0.1:8000`), or is not ready (None).

        Each has a slice of its own: its port here is another one than that of the next pod.
        """
        found = [
            item
            for item in self._store["Service"].values()
            if item["metadata"]["name"] == service and namespace in (None, item["metadata"].get("namespace"))
        ]
        if len(found) != 1:
            raise LabError(f"the cluster has {len(found)} Services named {service!r}, an endpoint needs exactly one")
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
                    "name": f"{service}-{pod}",
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
        metadata, kind = item["metadata"], item["kind"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        self._version += 1
        metadata.update(uid=f"lab-{kind}-{key}", resourceVersion=str(self._version), creationTimestamp=_CREATED)
        event = {"type": "MODIFIED" if key in self._store[kind] else "ADDED", "object": item}
        self._store[kind][key] = item
        self._events.append((self._version, kind, event))
        for watch in self._watches[kind]:
            watch.put_nowait(event)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET" or request.path not in KINDS:
            # Writes, and every other kind.
            self.unanswered.append(f"{request.method} {request.path_qs}")
            status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            return web.json_response(status, status=404)
        api_version, kind = KINDS[request.path]
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, api_version, kind)
        metadata = {"resourceVersion": str(self._version)}
        items = list(self._store[kind].values())
        return web.json_response(
            {"apiVersion": api_version, "kind": f"{kind}List", "metadata": metadata, "items": items}
        )

    async def _watch(self, request: web.Request, api_version: str, kind: str) -> web.StreamResponse:
        """Sends events, one a line, until the client goes away or the API is stopped."""
        watch: asyncio.Queue[Object | None] = asyncio.Queue()
        if request.query.get("sendInitialEvents") == "true":
            due = self._initial(api_version, kind)
        else:
            after = int(request.query.get("resourceVersion") or 0)
            due = [event for version, of, event in self._events if version > after and of == kind]
        for event in due:
            watch.put_nowait(event)
        self._watches[kind].add(watch)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            while (event := await watch.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
            await response.write_eof()
            return response
        finally:
            self._watches[kind].remove(watch)

    def _initial(self, api_version: str, kind: str) -> list[Object]:
        """The start of a streamed list (`sendInitialEvents`): every object, then the bookmark that ends it."""
        mark = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "resourceVersion": str(self._version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        }
        added = [{"type": "ADDED", "object": item} for item in self._store[kind].values()]
        return [*added, {"type": "BOOKMARK", "object": mark}]
