"""Hostile requests at the declared gateway: what comes back, what reaches a lane, and whether others notice.

Each request is bytes on a connection, judged by rules that hold for all of them (`judge`). Those of one class stand
together: `handmade`, `paths`, `drawn` (hypothesis and a seeded fuzzer), `crowds` (many at a time), `engines`. A request
that breaks a rule is kept as a file; `python -m tests.attack --replay FILE` sends it again.
"""
