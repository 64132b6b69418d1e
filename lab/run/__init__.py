"""The plan in, a running lab out.

Owns: the processes (`lab`, `processes`, `folders`, `ports`), the parts of a cloud that are simulated (`cloudrun`,
`burst`, `metadata`, `kubernetes_api`), and what breaks them on demand (`faults`). Does not own: reading the declaration
(`read`), load, or any judgement of what is seen: imports nothing of `measure`.
"""
