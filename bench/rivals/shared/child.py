"""The child's side of a contest: requests are lines of JSON on standard input, answers on standard
output. Knows no library; each rival is an object whose methods are what can be asked:

    prepare    a model with given weights, ready to train or to write -> parameters, versions
    step       some updates -> seconds, losses
    loss       of fixed windows, one by one, in float32, without dropout -> losses
    generate   prompts of token ids, greedily -> seconds, ids
"""

import json
import os
import sys
import traceback


def serve(rival: object) -> None:
    """Answers until standard input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(rival, request.pop("do"))(**request)
        except Exception as error:  # the parent says which rival, and goes on without it
            traceback.print_exc()
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)
