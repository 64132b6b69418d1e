"""Facts about machines: how fast each serves the model, what it holds, and what it costs.

Owns: the table of speeds with the source of each (`speeds`), the list prices (`prices`), and the time to a first token
that follows (`requests`). Does not own: which machine a stack takes (`settings`, `vm`), any resource. It imports
nothing, so that the lab, whose stand-ins are as slow as the real machines, may read the same facts.
"""
