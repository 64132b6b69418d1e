"""What stands around a system under load: the generators in front of it, and the model servers behind it.

Each is a process of its own on the load's core. `backend` answers, `closed` and `jobs` ask, `socks` stands in the
tunnel's place.
"""
