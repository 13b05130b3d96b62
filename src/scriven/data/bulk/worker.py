"""A process that encodes: `python -m scriven.data.bulk.worker FOLDER`, spoken to in lines of JSON.

It reads which job is next from standard input and writes a record for each piece it has made. When
the process that started it is gone, standard input ends, and so does this one, at once.
"""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from ...errors import ScrivenError
from ...process import settle
from ...tokenizers import load_tokenizer
from ...tokenizers.fast import fast_encoder
from .piece import Left, run_job
from .plan import read_plan


def main() -> None:
    """Works until standard input ends."""
    settle()
    out = Path(sys.argv[1])
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no record

    def tell(said: dict[str, Any]) -> None:
        told.write(json.dumps(said) + "\n")
        told.flush()

    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    try:
        plan, tokenizer = read_plan(out), load_tokenizer(out)
        assert plan is not None, "a worker without a plan"
        encoder = fast_encoder(tokenizer)
        while True:
            left = Left(*json.loads(orders.get()))
            for record in run_job(plan, left, tokenizer, encoder, out):
                tell({"record": record})
            tell({"done": left.job})
    except ScrivenError as error:
        tell({"error": str(error), "exit": error.exit_code})
    except OSError as error:
        tell({"errno": error.errno, "error": error.strerror or str(error)})


def _listen(orders: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)  # in the middle of a piece too: nobody waits for it any more


if __name__ == "__main__":
    main()
