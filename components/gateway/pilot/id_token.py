"""The Google ID token that burst asks for, in a file that Caddy reads with every request.

Owns: fetching it from the metadata server, the file, renewal. Does not own: who sends it (Caddy, `lane_client`).
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import time
from typing import Final
from urllib.parse import quote

from .environment import Settings
from .log import described, log
from .net import FAILURES, fetch

METADATA_S: Final = 5.0
"""Longest wait for the metadata server."""
RENEW_BEFORE_S: Final = 300.0
UNKNOWN_EXPIRY_S: Final = 1800.0
LEAST_RENEWAL_S: Final = 5.0


class IdToken:
    """The token as it stands in the file; empty until the first is there."""

    def __init__(self, settings: Settings) -> None:
        self.text = self.error = ""
        self.expires = 0.0
        """Unix time."""
        self._settings = settings
        self._refused = asyncio.Event()

    def renew(self) -> None:
        """Burst refused this one: fetch another."""
        self._refused.set()

    async def keep(self) -> None:
        """Does not end."""
        pause = 1.0
        while True:
            self._refused.clear()
            try:
                async with asyncio.timeout(METADATA_S):
                    token = await self._fetch()
                self._write(token)
                due = self.expires - time.time() - RENEW_BEFORE_S
                least, pause = LEAST_RENEWAL_S, 1.0
                due = due if due > 0 else least
                if self.error:
                    log("INFO", "the ID token is there")
                self.error = ""
            except FAILURES as error:
                if not self.error:
                    log("ERROR", f"no new ID token, burst can't be asked without: {described(error)}")
                self.error = described(error)
                due = least = pause
                pause = min(pause * 2, 30.0)
            # Burst may refuse the token at once and again; the metadata server must not be asked each time.
            await asyncio.sleep(min(least, due))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0, due - least)):
                    await self._refused.wait()

    async def _fetch(self) -> str:
        audience = quote(self._settings.burst_url, safe="")
        path = f"/computeMetadata/v1/instance/service-accounts/default/identity?audience={audience}&format=full"
        connection = asyncio.open_connection(*self._settings.metadata)
        status, text = await fetch(connection, self._settings.metadata[0], path, {"Metadata-Flavor": "Google"})
        token = text.strip()
        # It becomes a header: anything but a JWT's characters stays out.
        if status != 200 or not re.fullmatch(r"[A-Za-z0-9_=.-]+", token):
            raise ValueError(f"the metadata server says {status}, and no token")
        return token

    def _write(self, token: str) -> None:
        """In one piece: Caddy reads the file with every request."""
        self.text, self.expires = token, expiry(token, time.time())
        path = self._settings.id_token
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        fresh.replace(path)


def expiry(token: str, now: float) -> float:
    """Unix time at which a JWT ends; one that can't be read is taken for half an hour's."""
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    return now + UNKNOWN_EXPIRY_S + RENEW_BEFORE_S
