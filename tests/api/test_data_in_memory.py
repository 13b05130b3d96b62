"""Data of a program: each kind trains, fine-tunes and predicts as the same data in a file does."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

import scriven
from scriven.data.memory import Naming, rows_of, store

SHAPE = {"model.layers": 1, "model.heads": 2, "model.d_model": 32, "model.context_length": 16}
LANGUAGE = {**SHAPE, "runtime.dtype": "float32", "tokenizer.kind": "char"}
TEXTS = [f"It was night number {n}; the rain fell\non {n % 7} towns. «буря»\n" for n in range(40)]
LABELS = [("fair", "foul")[n % 2] for n in range(40)]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


class MapStyle(TorchDataset[Any]):
    """A data set of torch that does not end with an IndexError."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        return self.items[place % len(self.items)]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(TEXTS)


def ids(model: scriven.Model, text: str) -> np.ndarray[Any, Any]:
    return np.array(model.tokenizer.encode(text), dtype=np.uint16)


def separated(model: scriven.Model) -> np.ndarray[Any, Any]:
    """All texts as one array, as nanoGPT keeps them: each ends with EOS."""
    eos = np.array([model.tokenizer.eos])
    return np.concatenate([part for text in TEXTS for part in (ids(model, text), eos)])


# each holds TEXTS; the model is that of the base, whose tokenizer makes ids
TEXT_KINDS: dict[str, Callable[[scriven.Model], Any]] = {
    "list": lambda _: TEXTS,
    "iterator": lambda _: (text for text in TEXTS),
    "dict of columns": lambda _: {"text": TEXTS},
    "list of dicts": lambda _: [{"text": text} for text in TEXTS],
    "pandas": lambda _: pd.DataFrame({"text": TEXTS}),
    "pandas series": lambda _: pd.Series(TEXTS),
    "polars": lambda _: pl.DataFrame({"text": TEXTS}),
    "polars lazy": lambda _: pl.LazyFrame({"text": TEXTS}),
    "arrow": lambda _: pa.table({"text": TEXTS}),
    "arrow stream": lambda _: pa.table({"text": TEXTS}).to_reader(7),
    "datasets": lambda _: datasets.Dataset.from_dict({"text": TEXTS}),
    "datasets stream": lambda _: datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset(),
    "numpy texts": lambda _: np.array(TEXTS),
    "ids": lambda model: [ids(model, text) for text in TEXTS],
    "ids with eos": separated,
    "torch dataset": lambda _: MapStyle(TEXTS),
    "torch stream": lambda _: Streamed(),
    "torch dataset of ids": lambda model: MapStyle([torch.tensor(ids(model, t)) for t in TEXTS]),
    "torch loader": lambda _: DataLoader(MapStyle(TEXTS), batch_size=7),
}
TABLE_KINDS: dict[str, Callable[[], Any]] = {
    "list of tuples": lambda: list(zip(TEXTS, LABELS, strict=True)),
    "iterator": lambda: (dict(row) for row in ROWS),
    "dict of columns": lambda: {"text": TEXTS, "label": np.array(LABELS)},
    "list of dicts": lambda: ROWS,
    "pandas": lambda: pd.DataFrame(ROWS, index=range(40, 0, -1)),
    "polars": lambda: pl.DataFrame(ROWS),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "arrow batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "datasets": lambda: datasets.Dataset.from_list(ROWS).cast_column(
        "label", datasets.ClassLabel(names=["fair", "foul"])
    ),
    "torch dataset": lambda: MapStyle(list(zip(TEXTS, LABELS, strict=True))),
    "torch loader of dicts": lambda: DataLoader(MapStyle(ROWS), batch_size=7),
    "torch loader of tuples": lambda: DataLoader(
        MapStyle([(text, LABELS.index(label)) for text, label in zip(TEXTS, LABELS, strict=True)]),
        batch_size=7,
    ),
    "torch loader of rows": lambda: DataLoader(MapStyle(ROWS), batch_size=7, collate_fn=list),
}


def weights(model: scriven.Model) -> str:
    return hashlib.sha256((model.folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The runs that files make: `text` of one text, `language` of rows, `labels` of a table."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "book.txt").write_text("".join(TEXTS), encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    numbered = [{**row, "label": LABELS.index(row["label"])} for row in ROWS]
    (folder / "numbers.jsonl").write_text("\n".join(map(json.dumps, numbered)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
        text = train(str(folder / "book.txt"), out=folder / "text")
        yield {
            "folder": folder,
            "text": text,
            "language": train(folder / "rows.jsonl", out=folder / "language", base=text.folder),
            "labels": tune(text, folder / "rows.jsonl", out=folder / "labels"),
            "numbers": tune(text, folder / "numbers.jsonl", out=folder / "numbers"),
        }


def train(*sources: Any, **options: Any) -> scriven.Model:
    settings = {} if "base" in options else LANGUAGE
    options = {"budget": "2steps", "quiet": True, "settings": settings, **options}
    return scriven.train(*sources, **options)


def tune(base: scriven.Model, *data: Any, **options: Any) -> scriven.Model:
    return scriven.finetune(base.folder, *data, budget="2steps", quiet=True, **options)


def test_a_text_trains_as_its_file_does(files: dict[str, Any], tmp_path: Path) -> None:
    model = train("".join(TEXTS), out=tmp_path / "run")
    assert weights(model) == weights(files["text"])
    assert model.evaluate() == files["text"].evaluate()
    assert model.evaluate("".join(TEXTS)) == files["text"].evaluate(files["folder"] / "book.txt")
    token_ids = ids(model, "".join(TEXTS))
    gpt = scriven.GPT(tokenizer=model.tokenizer, layers=1, heads=2, d_model=32, context_length=16)
    gpt.fit(token_ids, budget="2steps", settings={"runtime.dtype": "float32"})
    assert gpt.model is not None
    assert weights(gpt.model) == weights(model)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_texts_are_those_of_their_file(kind: str, files: dict[str, Any]) -> None:
    data = TEXT_KINDS[kind](files["text"])
    naming = Naming(tokenizer=lambda: files["text"].tokenizer)
    assert list(rows_of(data, naming)) == [{"text": text} for text in TEXTS]


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_rows_are_those_of_their_file(kind: str) -> None:
    rows = list(rows_of(TABLE_KINDS[kind](), Naming(("text", "label"))))
    numbered = kind == "torch loader of tuples"
    assert rows == (
        [{**row, "label": LABELS.index(row["label"])} for row in ROWS] if numbered else ROWS
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_texts_train_as_their_file_does(kind: str, files: dict[str, Any], tmp_path: Path) -> None:
    data = TEXT_KINDS[kind](files["text"])
    model = train(data, out=tmp_path / "run", base=files["text"].folder)
    assert weights(model) == weights(files["language"])
    if kind in ("iterator", "arrow stream"):  # read once, and gone
        return
    assert files["text"].evaluate(data) == files["text"].evaluate(files["folder"] / "rows.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_rows_are_learned_as_their_file_is(
    kind: str, files: dict[str, Any], tmp_path: Path
) -> None:
    same = files["numbers" if kind == "torch loader of tuples" else "labels"]
    model = tune(files["text"], TABLE_KINDS[kind](), out=tmp_path / "run")
    assert weights(model) == weights(same)
    assert model.evaluate() == same.evaluate()
    wanted = same.predict(TEXTS)
    given = TABLE_KINDS[kind]()
    answers = model.predict(given)
    if isinstance(given, Iterator):
        assert isinstance(answers, Iterator)
        answers = list(answers)
    if isinstance(answers, list):
        assert answers == wanted
        return
    assert type(answers) is type(given)
    names = list(answers) if isinstance(answers, dict) else list(next(rows_of(answers)))
    assert names == ["text", "label", "prediction", "probability", "p(fair)", "p(foul)"]
    rows = list(rows_of(answers))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["prediction"] for row in rows] == [label for label, _ in wanted]
    chances = [row["probability"] for row in rows]
    assert chances == pytest.approx([chance for _, chance in wanted], abs=1e-6)


def test_columns_are_named_as_one_expects(files: dict[str, Any], tmp_path: Path) -> None:
    frame = pd.DataFrame({"review": TEXTS, "stars": LABELS})
    runs = [
        tune(files["text"], frame, text="review", label="stars", out=tmp_path / "a"),
        tune(files["text"], frame, columns={"text": "review", "label": "stars"}, task="classify",
             out=tmp_path / "b"),
        tune(files["text"], text=TEXTS, label=LABELS, out=tmp_path / "c"),
        tune(files["text"], TEXTS, label=pd.Series(LABELS), out=tmp_path / "d"),
        files["text"].finetune(frame, text="review", label="stars", budget="2steps", quiet=True,
                               out=tmp_path / "e"),
    ]  # fmt: skip
    assert {weights(model) for model in runs} == {weights(files["labels"])}
    answers = runs[0].predict(frame)
    assert list(answers) == ["review", "stars", "prediction", "probability", "p(fair)", "p(foul)"]
    again = runs[0].predict(answers)
    assert list(again)[-4:] == ["prediction_2", "probability_2", "p(fair)_2", "p(foul)_2"]
    assert list(again["prediction"]) == list(again["prediction_2"])


def test_a_validation_table_and_groups_from_memory(files: dict[str, Any], tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS).with_columns(town=pl.Series([n // 4 for n in range(40)]))
    tuned = tune(files["text"], frame[:30], validation=frame[30:], out=tmp_path / "a")
    assert tuned.results["val_rows"] == 10
    assert tuned.evaluate()["rows"] == 10
    grouped = tune(files["text"], frame, group="town", out=tmp_path / "b")
    assert grouped.results["val_rows"] == 4


def test_the_same_data_is_the_same_run(files: dict[str, Any], tmp_path: Path) -> None:
    first = train(TEXTS, out=tmp_path / "run")
    before = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert weights(train(iter(TEXTS), out=tmp_path / "run")) == weights(first)
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(scriven.ScrivenError):
        train(TEXTS[1:], out=tmp_path / "run")


# ------------------------------------------------------------------ what is refused


REFUSED: dict[str, tuple[Any, str]] = {
    "path": ("no/such.txt", r"no/such\.txt does not exist: "),
    "long path": ("no/such" * 300, r"no/such.{,200} does not exist: "),
    "number": (3, "the int holds no data that is read: give the name of a file, a text, "),
    "empty": ([], "the list is empty: give some rows, or a text"),
    "numbers": ([1.5], "row 1 of the list is a float: give texts, dicts by column, or tuples"),
    "nothing": (["a", None], "row 2 of the list is nothing: give texts"),
    "ids": (np.arange(5), "token ids say nothing without the tokenizer that made them: name its"),
    "row": ({"text": "a"}, "the dict is no dict of columns of one length .text no column.: "),
    "uneven": ({"a": [1], "b": [1, 2]}, "the dict is no dict of columns of one length .a 1, b 2."),
    "splits": (
        datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)),
        "the DatasetDict is no dict of columns",
    ),
    "other column": (
        pl.DataFrame({"words": ["a"]}),
        "the DataFrame row 1 has no column 'text': choose with settings.*one of words",
    ),
    "tuples": ([("a", "b", "c")], "row 1 of the list is a tuple: give texts, dicts by column"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_data_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    data, message = REFUSED[kind]
    with pytest.raises(scriven.ScrivenError, match=f"^{message}") as raised:
        train(data, out=tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert not (tmp_path / "run").exists()


def test_ids_of_another_tokenizer_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    base = files["text"]
    with pytest.raises(scriven.ScrivenError, match="token id 999 is outside the vocabulary"):
        train(np.array([5, 999]), base=base.folder, out=tmp_path / "run")
    spelled = [base.tokenizer.backend.token_to_id(f"<0x{byte:02X}>") for byte in b"a"]
    with pytest.raises(scriven.ScrivenError, match=r"^1 token ids are not those .* text 'a': give"):
        train([np.array(spelled)], base=base.folder, out=tmp_path / "run")


def test_bad_arguments_of_a_finetuning_are_refused(files: dict[str, Any]) -> None:
    def refused(message: str, *data: Any, **options: Any) -> None:
        with pytest.raises(scriven.ScrivenError, match=message):
            tune(files["text"], *data, **options)

    refused("^unknown argument txt: columns are named by ", ROWS, txt="a")
    refused(
        "^the columns text, label, premise fit no task: ", ROWS, text="a", label="b", premise="c"
    )
    refused("^give either data and the names of its columns, or all", ROWS, ROWS, label=LABELS)
    refused("^row 1 of the list is a tuple: give", [("a", "b", "c", "d")])
    with pytest.raises(scriven.ScrivenError, match=r"^input 1 .*found are words$"):
        files["labels"].predict(pd.DataFrame({"words": TEXTS}))
    with pytest.raises(scriven.ScrivenError, match="give a list of inputs"):
        files["labels"].predict("a text")


# ------------------------------------------------------------------ what is stored


def test_markup_is_a_text_when_it_is_given_as_one() -> None:
    page = "<html><body>\n<p>It rains.</p>\n</body></html>\n"
    assert [row["text"] for row in map(json.loads, store(page).open())] == [page]
    assert store("two\nlines").read_text() == "two\nlines"
    assert store("lone \ud800\nsurrogate").read_text() == "lone �\nsurrogate"


def test_cells_are_those_that_files_hold() -> None:
    frame = pd.DataFrame(
        {
            "day": pd.to_datetime(["2024-05-01", None]),
            "word": pd.Series(["a", None], dtype="string"),
            "kind": pd.Categorical(["x", "y"]),
            "number": pd.array([1, None], dtype="Int64"),
            "part": [np.float32(0.5), np.nan],
            "list": [np.array([1, 2]), ("a", {"b": np.int64(3)})],
            "picture": [io.BytesIO(), None],
        }
    )
    assert list(rows_of(frame)) == [
        {"day": "2024-05-01 00:00:00", "word": "a", "kind": "x", "number": 1, "part": 0.5,
         "list": [1, 2]},
        {"day": None, "word": None, "kind": "y", "number": None, "part": None,
         "list": ["a", {"b": 3}], "picture": None},
    ]  # fmt: skip


def test_an_iterator_is_written_as_it_is_read(temporary_cache: Path) -> None:
    seen: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(20_000):
            if number % 5_000 == 4_999:
                (file,) = (temporary_cache / "memory").iterdir()
                seen.append(file.stat().st_size)
            yield f"text number {number}"

    path = store(texts())
    assert len(seen) == 4 and 0 < seen[0] < seen[-1] < path.stat().st_size
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_iterator_that_fails_leaves_nothing(temporary_cache: Path) -> None:
    def texts() -> Iterator[str]:
        yield "a"
        raise RuntimeError("of the user's own")

    with pytest.raises(RuntimeError, match="of the user's own"):
        store(texts())
    assert list((temporary_cache / "memory").iterdir()) == []
