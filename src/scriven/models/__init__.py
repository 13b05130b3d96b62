"""One architecture = one file: a frozen Config and a Model, whose base classes are in base.py."""
