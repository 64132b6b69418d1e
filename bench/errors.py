"""The benchmarks' one error: a machine or a declaration that can't be measured, told in a sentence."""


class BenchError(Exception):
    """Shown to the user without a traceback."""
