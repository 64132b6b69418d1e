"""What the declared stack costs: a bill, read from the registered resources and the file of prices.

Owns: what each type of resource is billed by, and that none is left out. Does not own: the prices
(`components.machines.prices`), how the bill looks (`show`), the pages that hold its tables
(`tests.golden.cost_table`).
"""
