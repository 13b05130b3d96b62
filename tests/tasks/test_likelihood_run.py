"""Fine-tuning with `--finetune.lm_score_weight`: kept with the run, refused where impossible."""

import json
from pathlib import Path

import pytest

import scriven
from scriven.errors import InputError, SettingError

SHAPE = {
    "model.layers": "1",
    "model.heads": "2",
    "model.d_model": "16",
    "model.context_length": "64",
    "tokenizer.kind": "byte",
    "runtime.device": "cpu",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> scriven.Model:
    folder = tmp_path_factory.mktemp("likelihood")
    (folder / "book.txt").write_text("the baker sells bread, the fisher sells fish.\n" * 99)
    return scriven.train(
        folder / "book.txt", budget="3steps", out=folder / "book", quiet=True, settings=SHAPE
    )


def quiz(folder: Path) -> Path:
    rows = [
        {"context": f"{n} the baker sells", "choices": ["bread", "fish"], "answer": 0}
        for n in range(30)
    ]
    (folder / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "quiz.jsonl"


def test_a_run_keeps_it_and_no_other_program_is_given_half_of_it(
    base: scriven.Model, tmp_path: Path
) -> None:
    settings = {"finetune.lm_score_weight": "0.5", "finetune.token_dropout": "0.2"}
    model = base.finetune(
        quiz(tmp_path), out=tmp_path / "run", budget="2steps", quiet=True, settings=settings
    )
    again = scriven.load(tmp_path / "run")
    assert again.task.lm_score_weight == 0.5
    row = {"context": "the baker sells", "choices": ["bread", "fish"]}
    assert model.predict([row]) == again.predict([row])
    assert json.loads((tmp_path / "run/config.json").read_text())["model_type"] == "scriven-llama"
    for to in ("hf", "onnx", "gguf"):
        with pytest.raises(InputError, match=r"lm_score_weight|labels or scores"):
            scriven.export(again.folder, to=to)


@pytest.mark.parametrize("value", ["-1", "x"])
def test_another_value_is_refused(base: scriven.Model, tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingError, match=r"finetune\.lm_score_weight"):
        base.finetune(
            quiz(tmp_path),
            out=tmp_path / "run",
            quiet=True,
            settings={"finetune.lm_score_weight": value},
        )
    assert not (tmp_path / "run").exists()


def test_another_task_has_no_use_for_it(base: scriven.Model, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"good {n},yes\nbad {n},no\n" for n in range(20))
    )
    with pytest.raises(SettingError, match="only for the task choice"):
        base.finetune(
            tmp_path / "a.csv",
            out=tmp_path / "run",
            quiet=True,
            settings={"finetune.lm_score_weight": "1"},
        )
    assert not (tmp_path / "run").exists()


def test_many_long_rows_are_read_a_few_at_once(base: scriven.Model, tmp_path: Path) -> None:
    rows = [
        {
            "context": f"{n} the baker sells " + "and sells " * 4,
            "choices": [f"bread {choice}" for choice in range(20)],
            "answer": n % 20,
        }
        for n in range(30)
    ]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    model = base.finetune(path, out=tmp_path / "run", budget="1steps", quiet=True)
    train = model.metadata["settings"]["train"]
    assert train["batch_size"] == 8
    assert train["micro_batch_size"] == 4  # 20 answers of about 60 tokens in each row
