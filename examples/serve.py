"""Serves a model and asks it through OpenAI's HTTP API, with nothing but the standard library.

Usage: python examples/serve.py RUN
"""

import json
import sys
import urllib.request

import scriven

run = sys.argv[1] if len(sys.argv) > 1 else "latest"
server = scriven.load(run).serve(port=0)  # any free port
print("the page is at", server.url)

request = {"prompt": "The ", "max_tokens": 40, "seed": 1, "logprobs": 1}
answer = urllib.request.urlopen(
    urllib.request.Request(
        f"{server.url}v1/completions",
        json.dumps(request).encode(),
        {"content-type": "application/json"},
    )
)
choice = json.load(answer)["choices"][0]
print("The " + choice["text"])
print("its first token had the log-probability", round(choice["logprobs"]["token_logprobs"][0], 2))
server.stop()
