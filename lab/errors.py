"""The lab's one error: something it was asked that it can't do, told in a sentence."""


class LabError(Exception):
    """Shown to the user without a traceback."""
