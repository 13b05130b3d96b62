"""Asks lm_eval in a process of its own, in which every way to the network is shut.

    python harness_child.py FOLDER

prints one JSON object: what the command said, what lm_eval's own class for transformers answers to
the same requests, and how task files that cannot be used are refused.
"""

import contextlib
import io
import json
import socket
import sys
from pathlib import Path
from typing import Any

TASKS = Path(__file__).parents[2] / "examples" / "harness"

DATA = "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{text}}"\ndoc_to_target: answer\n'
TASK = "task: mine\n" + DATA + CHOICE + "doc_to_choice: choices\n"
WRITE = 'task: mine\noutput_type: generate_until\ndoc_to_text: "{{text}}"\ndoc_to_target: "b"\n'
ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"

UNUSABLE = {
    "code": TASK.replace("answer", "!function helper.answer"),
    "class": TASK + "class: helper.Task\n",
    "escape": TASK.replace("{{text}}", ESCAPE),
    "hub": TASK.replace("dataset_path: json", "dataset_path: allenai/openbookqa"),
    "pickle": TASK.replace("dataset_path: json", "dataset_path: pandas"),
    "address": TASK.replace("rows.jsonl", "https://example.org/rows.jsonl"),
    "metric": TASK + "metric_list: [{metric: rouge_from_hub}]\n",
    "field": TASK.replace("{{text}}", "{{question}}"),
    "broken": "task: [mine\n",
    "itself": "include: task.yaml\n" + TASK,
    "no data": "task: mine\n" + CHOICE,
    "no task": DATA,
    "knob": WRITE + DATA + "generation_kwargs: {num_beams: 4}\n",
}


def shut(*_: object, **__: object) -> None:
    raise AssertionError("somebody asked the network")


def say(*words: str) -> dict[str, Any]:
    """Exit code and output of a command."""
    from scriven.cli import run

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = run(["harness", *words])
    return {"code": code, "out": out.getvalue(), "error": error.getvalue()}


def train(folder: Path) -> Any:
    import scriven

    text = "The king has lost his crown; naïve café, one, two, three, four, five.\n" * 60
    (folder / "book.txt").write_text(text, encoding="utf-8")
    settings = {
        "model.layers": 2,
        "model.d_model": 32,
        "model.heads": 2,
        "model.context_length": 256,
        "tokenizer.kind": "bpe",
        "tokenizer.vocab_size": 300,
        "runtime.dtype": "float32",
        "train.sample_seconds": 0,
        "train.batch_size": 4,
        "optim.optimizer": "adamw",
        "optim.lr": 3e-3,
    }
    return scriven.train(
        folder / "book.txt", out=folder / "run", budget="30steps", settings=settings, quiet=True
    )


def answers(model: Any, folder: Path, limit: int) -> dict[str, Any]:
    """What a model of lm_eval answers to each request of the sample tasks."""
    from lm_eval.evaluator import evaluate

    from scriven.evaluate.harness_tasks import load_tasks

    folder.mkdir()
    loaded = load_tasks(TASKS, [], folder)
    found = evaluate(model, loaded, limit=limit, bootstrap_iters=0)
    return {
        "answers": {
            name: [sample["resps"] for sample in samples]
            for name, samples in found["samples"].items()
        },
        "scores": found["results"],
    }


def theirs(folder: Path) -> Any:
    """lm_eval's own class around the run folder, which transformers reads as it is."""
    import transformers
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=transformers.AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        batch_size=5,
    )


def refusals(folder: Path) -> dict[str, Any]:
    found = {}
    row = {"text": "a", "choices": ["b", "c"], "answer": 0}
    for name, text in UNUSABLE.items():
        place = folder / name
        place.mkdir()
        (place / "task.yaml").write_text(text)
        (place / "rows.jsonl").write_text(json.dumps(row) + "\n")
        (place / "helper.py").write_text("raise SystemExit('code of a task was run')\n")
        found[name] = say(str(folder / "run"), str(place))
    run = str(folder / "run")
    found["unknown"] = say(run, str(TASKS), "--tasks", "speling")
    found["absent"] = say(run, str(folder / "nothing"))
    found["limit"] = say(run, str(TASKS), "--limit", "0")
    return found


def group(folder: Path) -> dict[str, Any]:
    """Two tasks that share what they include, as one."""
    place = folder / "group"
    place.mkdir()
    row = {"text": "The king has", "choices": [" lost", " tsol"]}
    for name, answer in (("one", 0), ("two", 1)):
        text = json.dumps({**row, "answer": answer}) + "\n"
        (place / f"{name}.jsonl").write_text(text)
        shared = f"include: shared.inc\ntask: {name}\ndataset_kwargs: "
        (place / f"{name}.yaml").write_text(shared + f"{{data_files: {{test: {name}.jsonl}}}}\n")
    (place / "shared.inc").write_text(TASK.replace("task: mine\n", "target_delimiter: ''\n"))
    both = "group: both\ntask: [one, two]\naggregate_metric_list: [{metric: acc}]\n"
    (place / "both.yaml").write_text(both)
    return say(str(folder / "run"), str(place), "--tasks", "both", "--json")


def main(folder: Path) -> None:
    for name in ("connect", "connect_ex", "bind", "sendto"):
        setattr(socket.socket, name, shut)
    socket.getaddrinfo = socket.create_connection = shut  # type: ignore[assignment]
    model = train(folder)
    result: dict[str, Any] = {}
    sys.modules["lm_eval"] = None  # type: ignore[assignment]
    result["missing"] = say(str(folder / "run"), str(TASKS))
    del sys.modules["lm_eval"]
    result["command"] = say(str(folder / "run"), str(TASKS), "--json")
    result["table"] = say(str(folder / "run"), str(TASKS), "--limit", "2", "--tasks", "spelling")
    result["refused"] = refusals(folder)
    result["group"] = group(folder)
    from scriven.evaluate.harness import lm_eval_model
    from scriven.evaluate.loglikelihood import LoglikelihoodScorer

    own = lm_eval_model(
        LoglikelihoodScorer(model.task, model.tokenizer, model.runtime), model.engine
    )
    result["ours"] = answers(own, folder / "a", 12)
    result["theirs"] = answers(theirs(folder / "run"), folder / "b", 12)
    print(json.dumps(result, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
