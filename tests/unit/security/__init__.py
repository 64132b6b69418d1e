"""Who can reach what, and who gets to know what: proven from what the program registers, with the mistakes it must see.

Owns: the rules of exposure (`rules`), the search for planted secrets (`leaks`), the levels of the pods (`pods`), the
mistakes (`mistakes`; `python -m tests.unit.security` shows each with what the rule says). Does not own: the rules of
single rights (`tests.unit.test_grants`).
"""
