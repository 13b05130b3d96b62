"""How a command ends: Ctrl-C while files are imported, a verdict only where one can be given."""

import subprocess
import sys

from scriven.cli.train import _verdict
from scriven.train.stopping import Interrupted

IMPORTING = """
import builtins, runpy, sys
real = builtins.__import__
def importing(name, *more, **named):
    if name == "cyclopts":
        raise KeyboardInterrupt
    return real(name, *more, **named)
builtins.__import__ = importing
sys.argv = ["scriven", "--version"]
runpy.run_module("scriven", run_name="__main__")
"""


def test_ctrl_c_during_imports_shows_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "scriven: interrupted\n"


def test_a_stopped_training_is_a_keyboard_interrupt_in_python() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)
    assert not issubclass(Interrupted, Exception)


def test_a_few_held_out_tokens_prove_nothing() -> None:
    results = {"val_loss": 1.0, "ngram_loss": 2.0, "ngram_order": 5}
    assert _verdict({**results, "val_tokens": 1000}) == "better than counting 5-grams (2.000)"
    told = _verdict({**results, "val_tokens": 12})
    assert told.startswith("12 held-out tokens are too few to compare")
