"""OpenAI's JavaScript client: models, completions, chat, streams, errors, a client that leaves.

Needs node, and the npm package `openai` in a folder that NODE_PATH names.
"""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from running import Running

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("openai_client.cjs")


def has_client() -> bool:
    if NODE is None:
        return False
    return subprocess.run([NODE, "-e", "require('openai')"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_client(), reason="node or its package openai is not installed")
def test_the_javascript_client_gets_what_the_api_promises(server: Running) -> None:
    assert NODE is not None
    result = subprocess.run(
        [NODE, str(SCRIPT), f"{server.url}/v1"], capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stderr) == (0, "")
    # whoever has left frees the place
    scheduler = server.served[0].scheduler
    assert scheduler is not None
    ends = time.monotonic() + 20
    while scheduler.running and time.monotonic() < ends:
        time.sleep(0.05)
    assert scheduler.running == 0
