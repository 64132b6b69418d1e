"""What every lane takes, asked of the real engines: `python -m tests.contract`, which is `make engines`.

Owns: the kinds of requests, what each engine answers to them, and the differences that are known. Does not own: the
lanes behind the gateway (`tests.gateway`, `tests.lab`), the engines' speed (`bench.vm`). `tests.engine` is another
engine, Pulumi's.
"""
