"""The recorded stack in, a plan out: all that the lab is to run, and what it refuses to run otherwise than declared.

Owns: recording the resources (`stack`, with `cloud` in the providers' place), a reader for each declared thing
(`gateway`, `burst`, `vm`, `home`, `traefik`, `tailnet`), the translation (`images`, `tables`), and the plan of it all
(`plan`). Does not own: any process or port; imports nothing of `run` and `measure`.
"""
