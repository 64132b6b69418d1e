"""Benchmarks: the gateway beside its peers (`python -m bench`, `make bench`), and declared machines (`vm`).

A run goes downwards: `tables` has a file for each table, which puts `systems` on the `stage` and a `load` on them;
`statistics` and `goals` judge, `results` writes.
"""
