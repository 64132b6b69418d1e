"""The soak: a hundred callers of several kinds, and a random schedule of faults under them.

`schedule` says what breaks when, by a seed; `callers` ask and note what they were told; `run` does both on a lab and
takes the gauges (`gauges`); `verdict` holds the notes against the lanes' own logs; `shrink` finds the shortest schedule
that still breaks a promise; `table` shows it. How to read it: docs/lab.md.
"""
