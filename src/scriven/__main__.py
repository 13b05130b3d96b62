"""`python -m scriven` is the `scriven` command."""

import os
import sys

# -m puts the current folder in front, and a json.py there must not be taken for Python's
if sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from .cli import main

main()
