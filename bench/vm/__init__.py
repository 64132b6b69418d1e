"""The VM lane's speed on the machine that this runs on (`python -m bench.vm`).

The declared weights are replaced by random ones of the same shape and size, which are as fast, so nothing is fetched.
`shapes` and `blocks` say how such a file looks, `weights` writes it, `server` runs llama.cpp's server on it with the
declared arguments, `client` asks, `rows` judges and prints, `machine` reads the hardware, `__main__` goes through it.
"""
