"""The systems that are measured, a file each: how one is started, and on which of its addresses it is asked.

`system` says what all have in common. Each leads to the same model servers (`load.backend`) at the same addresses.
"""
