"""What previews and deploys the stacks of one Google project: GitHub's workflows, without a stored key.

Owns: who is let in (`delivery`) and what for (`roles`), the bucket of the states and the key of their secrets. Does not
own: the workflows (`.github/workflows`), how CI joins the tailnet (`tailnet`).
"""
