"""The lab's one error: a request or a declaration that the lab can't carry out, told in a sentence."""


class LabError(Exception):
    """Shown to the user without a traceback."""
