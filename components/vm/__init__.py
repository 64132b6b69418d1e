"""The VM lane: an always-on machine with the same model.

Owns: the machine (`machine`) or a group of them (`group`), who reaches it (`firewall`), and what it does at boot
(`boot`). Does not own: the network that it stands in (`network`), which requests it gets (`gateway`).
"""
