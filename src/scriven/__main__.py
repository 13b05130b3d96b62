"""The `scriven` command, also as `python -m scriven`."""

import os
import sys

# -m puts the current folder in front, and a json.py there must not be taken for Python's
if sys.path[:1] == [os.getcwd()]:
    del sys.path[0]


def main() -> None:
    """Runs the command line; Ctrl-C ends it without a traceback, also while files are imported."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        print("scriven: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
