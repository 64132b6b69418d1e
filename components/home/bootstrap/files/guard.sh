#!/usr/bin/env bash
# Loads the guard of K3s' ports, whole and at once, and speaks only if it was gone or another: whatever flushes nftables'
# rules takes it along. Runs before K3s, with each start, reload and stop of nftables.service, and every 30 s.
set -euo pipefail

listed() { nft --stateless list table inet pilotlight_guard 2>/dev/null || true; }

before=$(listed)
nft --file "${GUARD:-/etc/pilotlight/guard.nft}"
if [ -z "$before" ]; then
  echo "K3s' ports had no guard: loaded" >&2
elif [ "$(listed)" != "$before" ]; then
  echo "the guard of K3s' ports had changed: loaded again" >&2
fi
