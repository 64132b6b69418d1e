"""The pilot: a program of its own that runs in a stock Python image.

It is shipped as a zip of at most 64 KiB (`components.gateway.pilot_container`), so its modules import the standard
library and one another, by relative names, and nothing else.
"""
