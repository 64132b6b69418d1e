"""Load on a running lab, and a judgement of what became of it.

Owns: the lab that is measured (`testbed`), load and samples (`load`), a scenario for each fault (`scenarios`), the
lanes' own logs as witnesses (`evidence`), every service once (`services`), and the drawing (`picture`). Does not own:
the running lab (`run`); nothing in `read` or `run` knows of this room.
"""
