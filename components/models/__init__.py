"""Facts about models: what each engine needs to serve one, and what its shape costs in memory and time.

Owns: the form of a model (`shape`), the presets with the source of each value (`catalogue`), and what every lane takes
of one request (`contract`). Does not own: which model a stack serves (`settings.model`), any engine's arguments
(`vllm`, `vm.server`). It imports nothing of the other rooms, so that the lab may read the same facts.
"""
