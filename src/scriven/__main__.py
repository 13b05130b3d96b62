"""`python -m scriven` is the `scriven` command."""

from .cli import main

main()
