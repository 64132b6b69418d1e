"""Runs the declaration on one machine: the resources that the Pulumi program registers are the lab's only input.

Owns: reading the recorded stack (`read`), running what is declared in it (`run`), judging the result (`measure`), and
the programs that stand in for container images (`programs`). Does not own: the declaration; no file here imports
anything of `components`, so that a mistake there can't excuse itself here.

Imports go one way: `read` <- `run` <- `measure`, with the command line (`__main__`) on top. A program of `programs` is
a process of its own and imports nothing of the other rooms.
"""
