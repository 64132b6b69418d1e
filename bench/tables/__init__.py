"""The tables of the results, a file each: what is run for it, and what is judged by it. `results` has their order."""
