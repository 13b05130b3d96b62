"""What is killed: each kind of work that writes, small, with what must be true at any moment.

Everything runs in forks of a process that has torch imported, so that a kill takes milliseconds.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from reliability.finetuning import base_run, labelled, write_lines
from reliability.runs import SMALL, newest, request, whole
from runs.faults import save, value_of
from scriven import export, import_run, importing, load
from scriven.data.pipeline import load_dataset
from scriven.data.prepare import run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.data.shards import read_dataset_manifest
from scriven.export import export as export_module
from scriven.export import parity_check
from scriven.export.targets import hf
from scriven.files import remove_leftovers
from scriven.generate.predict import write_predictions
from scriven.report import page
from scriven.runs import checkpoint, model_card
from scriven.settings import DataSettings, TokenizerSettings
from scriven.train import datasets
from scriven.train.run import start_or_resume

SAVES = 12
Check = Callable[[Path], None]


class Scenario:
    """One kind of work. `place` has the inputs, `out` is an empty folder for what is written."""

    def setup(self, place: Path, out: Path) -> None:
        """Puts into `out` what was there before."""

    def work(self, place: Path, out: Path) -> None:
        """The same command each time; after a kill it continues, or begins again."""
        raise NotImplementedError

    def check(self, out: Path) -> object:
        """What is there after a kill; raises where something is torn, and never gets smaller."""
        raise NotImplementedError

    def result(self, out: Path) -> object:
        """What must not depend on interruptions."""
        raise NotImplementedError


class Train(Scenario):
    def work(self, place: Path, out: Path) -> None:
        settings: dict[str, object] = {
            "train__save_interval": 4, "train__eval_interval": 10, "model__dropout": 0.1,
        }  # fmt: skip
        start_or_resume(request(place / "book.txt", out / "run", "24steps", **settings))

    def check(self, out: Path) -> object:
        return newest(out / "run")

    def result(self, out: Path) -> object:
        return whole(out / "run")


class Finetune(Scenario):
    def work(self, place: Path, out: Path) -> None:
        settings = {"train.batch_size": 4, "train.save_interval": 3, "train.sample_seconds": 0,
                    "runtime.dtype": "float32", "runtime.threads": 1}  # fmt: skip
        load(place / "llama").finetune(
            place / "table.jsonl", budget="9steps", out=out / "run", quiet=True, settings=settings
        )

    check, result = Train.check, Train.result


class Save(Scenario):
    """Checkpoints one after the other; a witness outside of the folder knows the reported ones."""

    def setup(self, place: Path, out: Path) -> None:
        (out / "witness").write_text("000")

    def work(self, place: Path, out: Path) -> None:
        witness = os.open(out / "witness", os.O_RDWR)
        found = checkpoint.load_newest(out / "run")
        remove_leftovers(out / "run" / checkpoint.FOLDER)  # of a kill in the last prune
        for step in range(1 if found is None else found.step + 1, SAVES + 1):
            save(out / "run", step)
            os.pwrite(witness, f"{step:03}".encode(), 0)  # no call that fault injection counts
            checkpoint.prune(out / "run", 2)
        os.close(witness)

    def check(self, out: Path) -> object:
        reported = int((out / "witness").read_text())
        found = checkpoint.load_newest(out / "run")
        step = 0 if found is None else int(value_of(found))
        assert step >= reported, f"step {reported} was reported, {step} is there"
        assert found is None or not found.warnings, "an older checkpoint was taken"
        return step

    def result(self, out: Path) -> object:
        return self.check(out)


def digests(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """Path -> SHA-256 of all files but locks."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", *skip))
    }


class Prepare(Scenario):
    def work(self, place: Path, out: Path) -> None:
        sources = [str(place / "rows.jsonl"), str(place / "book.txt")]
        settings = TokenizerSettings("byte", None)
        run_prepare(PrepareArgs(sources, out / "made", tokenizer=settings, processes=1,
                                shard_bytes=1000))  # fmt: skip

    def check(self, out: Path) -> object:
        shards = sorted((out / "made" / "shards").glob("[0-9]*"))
        for shard in shards:
            record = json.loads((shard / "shard.json").read_text())
            for name, entry in record["files"].items():
                content = (shard / Path(name).name).read_bytes()
                assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        if (out / "made" / "manifest.json").exists():
            read_dataset_manifest(out / "made")
        return len(shards)

    def result(self, out: Path) -> object:
        return digests(out / "made")


class Cache(Scenario):
    def work(self, place: Path, out: Path) -> None:
        os.environ["SCRIVEN_CACHE"] = str(out / "cache")
        settings = TokenizerSettings("bpe", 280)
        load_dataset([str(place / "book.txt")], DataSettings(), settings, seed=1)

    def check(self, out: Path) -> object:
        made = [
            each for each in (out / "cache" / "prepared").glob("*")
            if each.is_dir() and each.suffix != ".work"
        ]  # fmt: skip
        for folder in made:
            read_dataset_manifest(folder)
        return len(made)

    def result(self, out: Path) -> object:
        return digests(out / "cache")


class Predict(Scenario):
    OLD = "text,prediction\nold,answers\n"

    def setup(self, place: Path, out: Path) -> None:
        (out / "answers.csv").write_text(self.OLD)

    def work(self, place: Path, out: Path) -> None:
        answers = load(place / "judge").predict_table(str(place / "table.jsonl"))
        write_predictions(answers, out / "answers.csv", print)

    def check(self, out: Path) -> object:
        text = (out / "answers.csv").read_text()
        assert text == self.OLD or text.count("\n") == 25, "half an answer"
        return text != self.OLD

    def result(self, out: Path) -> object:
        return digests(out)


class Export(Scenario):
    TIMES = ("export.json",)

    def setup(self, place: Path, out: Path) -> None:
        if not (place / "exported").exists():
            export(place / "judge", to="hf", out=place / "exported")
        shutil.copytree(place / "exported", out / "made")

    def work(self, place: Path, out: Path) -> None:
        export(place / "llama", to="hf", out=out / "made")

    def check(self, out: Path) -> object:
        # between two renames the earlier one has another name
        made = out / "made" if (out / "made").exists() else out / ".old-made"
        found = sorted(digests(made).items())
        config = json.loads((made / "config.json").read_text())
        assert len(found) >= 5, found
        return "id2label" not in config

    def result(self, out: Path) -> object:
        return digests(out / "made", self.TIMES)


class Import(Scenario):
    def work(self, place: Path, out: Path) -> None:
        if not (out / "made").exists():
            import_run(place / "theirs", out=out / "made")
        else:  # a finished one is refused, as it may have been trained on
            remove_leftovers(out)  # of a kill after the rename: the next writer removes them

    def check(self, out: Path) -> object:
        if not (out / "made").exists():
            return 0
        load(out / "made")
        return 1

    def result(self, out: Path) -> object:
        # the record holds the time, and the manifest its digest
        return digests(out / "made", ("scriven.json", "manifest.json"))


SCENARIOS: dict[str, Scenario] = {
    type(each).__name__.lower(): each
    for each in (Train(), Save(), Prepare(), Finetune(), Predict(), Export(), Import(), Cache())
}


def make_place(folder: Path) -> Path:
    """The inputs of all scenarios."""
    folder.mkdir()
    base_run(folder)  # makes book.txt and llama
    os.environ["SCRIVEN_CACHE"] = str(folder / "cache")
    write_lines(folder / "table.jsonl", labelled())
    rows = [{"text": f"{number} the rain fell and no one came"} for number in range(120)]
    write_lines(folder / "rows.jsonl", rows)
    settings = {name: value for name, value in SMALL.items() if not name.startswith("model.")}
    load(folder / "llama").finetune(
        folder / "table.jsonl", budget="4steps", out=folder / "judge", quiet=True,
        settings={**settings, "finetune.bag_of_words": False},  # Hugging Face has none
    )  # fmt: skip
    load(folder / "llama").finetune(
        folder / "table.jsonl", budget="1steps", out=folder / "adapted", quiet=True,
        settings={**settings, "finetune.weights": "lora", "finetune.lora_rank": 2},
    )  # fmt: skip
    SCENARIOS["prepare"].work(folder, folder)
    (folder / "made").rename(folder / "prepared")
    ours = shutil.ignore_patterns("scriven.json", "checkpoints", "metrics.jsonl")
    shutil.copytree(folder / "llama", folder / "theirs", ignore=ours)
    return folder


def prepare_process(place: Path) -> None:
    """What work needs of the process that is forked, and what would take most of its time: the
    cache; compiled templates; short samples; and a check of exports inside of the process, since
    one of its own would import transformers each time and outlive a kill."""
    os.environ["SCRIVEN_CACHE"] = str(place / "cache")
    for module in (export_module, importing):
        module.run_probe = lambda _, *given: hf.Target().run_probe(*given)  # type: ignore[attr-defined]
    datasets.SAMPLE_TOKENS = parity_check.NEW_TOKENS = 8
    for template in ("page.html.jinja", "sections.html.jinja"):
        page.environment().get_template(template)
    model_card._environment(False).get_template("model_card.md.jinja")
    model_card._environment(True).get_template("usage.py.jinja")
