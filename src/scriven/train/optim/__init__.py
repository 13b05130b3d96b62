"""Optimizers: one optimizer = one file, chosen with `--optim.optimizer NAME` or `./mine.py`."""
