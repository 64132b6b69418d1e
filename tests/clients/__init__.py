"""Real clients against the running lab: `python -m tests.clients`, which is `make clients`.

Owns: a small program for each client in its own language, the scenarios that each must get through, what each sends,
and how long it waits. Does not own: the lab (`lab`), the lanes' faults (`tests.lab`), what the engines answer
(`tests.contract`).
"""
