"""The child's side of a contest: requests are lines of JSON on standard input, answers on standard
output. Independent of any library; each program is an object with these methods:

    prepare    builds a model with given weights, to train or to generate -> parameters, versions
    step       some training steps -> seconds, losses
    loss       of fixed windows, one by one, in float32, without dropout -> losses
    generate   greedy, from prompts of token ids -> seconds, ids
"""

import json
import os
import sys
import time
import traceback


def serve(program: object) -> None:
    """Answers until standard input ends. The output of libraries goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request, began = json.loads(line), time.process_time()
        try:
            answer = getattr(program, request.pop("do"))(**request)
            answer["processor_seconds"] = time.process_time() - began
        except Exception as error:  # the parent reports it, and continues without this program
            traceback.print_exc()
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)
