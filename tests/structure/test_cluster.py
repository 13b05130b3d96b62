"""The launch files of examples/cluster are valid, name a real command, and end as they say."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from scriven import config
from scriven.cli import build_app, run

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


def directives(script: Path) -> dict[str, str]:
    """What `#SBATCH` lines ask for."""
    lines = script.read_text(encoding="utf-8").splitlines()
    asked = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (each.partition("=") for each in asked)}


def documents() -> list[dict[str, Any]]:
    text = (CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def understood(words: list[str]) -> bool:
    """Whether `scriven` takes these words; `train` and what follows it."""
    rest, settings = config.split_arguments(words)
    command, _, _ = build_app().parse_args(rest, exit_on_error=False, print_error=False)
    return getattr(command, "__name__", "") == "train" and not settings


def test_there_are_scripts() -> None:
    assert [script.stem for script in SCRIPTS] == ["slurm-nodes", "slurm-one-node"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_clean_shell(script: Path) -> None:
    for tool in (["bash", "-n"], [str(SHELLCHECK), "--shell=bash"]):
        done = subprocess.run([*tool, str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_unquoted_variable_is_noticed(tmp_path: Path) -> None:
    """A planted bug."""
    wrong = tmp_path / "wrong.sh"
    wrong.write_text(
        SCRIPTS[0]
        .read_text()
        .replace('"$shared/venv', "$shared/venv")
        .replace('activate"', "activate")
    )
    done = subprocess.run([str(SHELLCHECK), str(wrong)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "SC2086" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_ask_slurm_for_what_they_rely_on(script: Path) -> None:
    asked = directives(script)
    assert {"nodes", "gpus-per-node", "cpus-per-task", "time", "requeue", "output"} <= set(asked)
    assert asked["ntasks-per-node"] == "1", "one torchrun on each computer"
    assert asked["open-mode"] == "append", "a job that comes back must not lose its log"
    assert asked["signal"].startswith("B:USR1@")
    text = script.read_text(encoding="utf-8")
    assert int(asked["signal"].partition("@")[2]) > int(text.split("--shutdown-timeout ")[1][:3])


TOOLS = {
    "srun": 'shift; exec "$@"',
    "torchrun": 'printf "%s\\n" "$@" > "$SHARED/words"\n'
    'trap "echo saved >> $SHARED/log; exit 143" TERM\n'
    'sleep "${LASTS:-0}" & wait $!\nexit "${CODE:-0}"',
    "scontrol": 'if [ "$1" = show ]; then echo first; echo second; '
    'else echo "$@" >> "$SHARED/log"; fi',
}
"""Stand-ins for Slurm's programs and for torchrun."""


def started(script: Path, folder: Path, **more: str) -> subprocess.Popen[str]:
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "venv" / "bin" / "activate").touch()
    tools = folder / "tools"
    tools.mkdir()
    for name, body in TOOLS.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    here = {
        "PATH": f"{tools}:{os.environ['PATH']}", "SHARED": str(folder), "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "x[1-2]", "SLURM_GPUS_ON_NODE": "4",
    }  # fmt: skip
    return subprocess.Popen(["bash", str(script)], env=here | more, text=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_start_a_real_command_and_hand_its_code_on(script: Path, tmp_path: Path) -> None:
    assert started(script, tmp_path, CODE="3").wait(30) == 3
    words = (tmp_path / "words").read_text().splitlines()
    place = words.index("-m")
    assert words[place : place + 2] == ["-m", "scriven"]
    assert understood(words[place + 2 :])
    assert words[words.index("--nproc-per-node") + 1] == "4"
    if script.stem == "slurm-nodes":
        assert words[words.index("--nnodes") + 1] == "2"
        assert words[words.index("--rdzv-endpoint") + 1] == "first:20077"
    else:
        assert "--standalone" in words
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_before_the_time_limit_it_saves_and_queues_again(script: Path, tmp_path: Path) -> None:
    job = started(script, tmp_path, LASTS="60")
    until = time.monotonic() + 30
    while not (tmp_path / "words").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.3)  # the stand-in sets its trap after that
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert (tmp_path / "log").read_text().splitlines() == ["saved", "requeue 77"]


def test_the_job_of_kubernetes_has_what_it_needs() -> None:
    service, job = documents()
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    name, spec = job["metadata"]["name"], job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a rule for failed pods asks for it"
    # names of pods: the Service has none of its own, and finds them by the label of their job
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert {"name", "image", "command", "args", "resources"} <= set(container)
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == volumes
    assert "/dev/shm" in mounts.values()


def test_the_job_of_kubernetes_starts_a_real_command() -> None:
    service, job = documents()
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["torchrun"]
    words = [str(word) for word in container["args"]]
    place = words.index("-m")
    options = dict(word.removeprefix("--").split("=") for word in words[:place])
    assert options["nnodes"] == str(job["spec"]["parallelism"])
    assert options["nproc-per-node"] == str(container["resources"]["limits"]["nvidia.com/gpu"])
    port = service["spec"]["ports"][0]["port"]
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert options["rdzv-endpoint"] == f"{first}:{port}"
    assert int(options["shutdown-timeout"]) < pod["terminationGracePeriodSeconds"]
    assert words[place + 1] == "scriven"
    assert understood(words[place + 2 :])
    assert words[words.index("--out") + 1].startswith("/shared/")


def test_torchrun_knows_the_options() -> None:
    from torch.distributed.run import get_args_parser

    known = get_args_parser().format_help()
    text = "".join(path.read_text(encoding="utf-8") for path in CLUSTER.iterdir() if path.is_file())
    ours = ("--rdzv", "--nnodes", "--nproc", "--max-", "--shutdown", "--standalone")
    words = [word.partition("=")[0] for word in re.split(r"[\s`(),;]+", text)]
    options = {word for word in words if word.startswith(ours)}
    assert len(options) == 8
    for option in options:
        assert option in known, option


def test_the_commands_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CLUSTER / "README.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("scriven ")]
    assert lines
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0
    for name in ("slurm-one-node.sh", "slurm-nodes.sh", "kubernetes.yaml"):
        assert f"({name})" in page
    assert shutil.which("bash")
