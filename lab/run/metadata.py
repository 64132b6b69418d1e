"""Google's identities on one machine: the metadata server that hands out ID tokens, and the check of them.

Owns: tokens in Google's form (a JWT with issuer, subject, audience, e-mail and expiry), signed with a key of this lab.
Does not own: who may call what; that is in the declared `run.invoker` grants (`read.burst`).
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any, Final, cast

from aiohttp import web

PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/identity"
ISSUER: Final = "https://accounts.google.com"
LIFE_S: Final = 3600
"""Google's ID tokens live an hour."""


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Identities:
    """Issues and checks ID tokens. `life_s` can be shortened, so that a test sees a renewal."""

    def __init__(self, *, life_s: float = LIFE_S) -> None:
        self._key = secrets.token_bytes(32)
        self._life_s = life_s
        self._runner: web.AppRunner | None = None

    def issue(self, email: str, audience: str, *, subject: str = "") -> str:
        """A token for `email` and its unique id, good at `audience` only."""
        now = int(time.time())
        who = {"iss": ISSUER, "sub": subject, "email": email}
        claims = {**who, "aud": audience, "iat": now, "exp": now + int(self._life_s)}
        body = f"{_encoded(json.dumps({'alg': 'HS256'}).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{body}.{self._signature(body)}"

    def email(self, token: str, audience: str) -> str | None:
        """Whose token it is; None if it is forged, expired, or meant for another audience."""
        body, _, signature = token.rpartition(".")
        if not signature.isascii() or not hmac.compare_digest(signature, self._signature(body)):
            return None
        payload = body.partition(".")[2]
        claims = cast(dict[str, Any], json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        good = claims["aud"] == audience and claims["exp"] > time.time()
        return str(claims["email"]) if good else None

    async def serve(self, email: str, port: int, *, subject: str = "") -> None:
        """The metadata server as a container of `email`'s service sees it."""

        async def identity(request: web.Request) -> web.Response:
            if request.headers.get("Metadata-Flavor") != "Google":
                return web.Response(status=403, text="Missing Metadata-Flavor:Google header.")
            audience = request.query.get("audience")
            if not audience:
                return web.Response(status=400, text="non-empty audience parameter required")
            return web.Response(
                text=self.issue(email, audience, subject=subject), headers={"Metadata-Flavor": "Google"}
            )

        app = web.Application()
        app.router.add_get(PATH, identity)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        """Closes the metadata server."""
        if self._runner:
            await self._runner.cleanup()

    def _signature(self, body: str) -> str:
        return _encoded(hmac.new(self._key, body.encode(), hashlib.sha256).digest())
