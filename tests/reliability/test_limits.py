"""Too little memory, a text that changes under a run, another number of processes."""

import os
import resource
import sys
from pathlib import Path

import pytest

from scriven.config import cache_folder
from scriven.runs import checkpoint
from scriven.runs.metadata import read_metadata, write_metadata
from scriven.train.stopping import Interrupted

from .runs import Child, after_each_step, arguments, command, events, refused, stopping_at, train
from .runs import whole as everything


def in_a_fork(action: object, folder: Path) -> str:
    """What an action says that must not change this process."""

    def run() -> None:
        (folder / "said").write_text(str(action()))  # type: ignore[operator]

    status, said = Child(run).wait()
    assert status == 0, said
    return (folder / "said").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is enforced on Linux only")
def test_a_real_limit_of_memory_is_one_line_and_the_checkpoint_is_whole(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # logits of 65,536 tokens and 260 classes take 68 MB in one piece
    large = ["--train.batch_size=4096", "--train.micro_batch_size=4096", "--tokenizer.kind=byte"]

    def limited() -> str:
        def limit(*_: object) -> None:
            used = int(Path("/proc/self/statm").read_text().split()[0])
            most = used * os.sysconf("SC_PAGE_SIZE") + (40 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (most, -1))

        # after the first step everything is loaded, and what follows is training itself
        with after_each_step(lambda *_: limit()):
            return refused(*arguments(text, out, *large, "--quiet", budget="2steps"), code=3)

    said = in_a_fork(limited, tmp_path)
    for name in ("--train.micro_batch_size", "--model.context_length", "--size"):
        assert name in said
    found = checkpoint.load_newest(out)
    assert found is not None
    assert found.warnings == []
    large[1] = "--train.micro_batch_size=512"
    assert command(*arguments(text, out, *large, budget="2steps"))[0] == 0


@pytest.mark.parametrize("change", ["truncated", "overwritten", "replaced"])
def test_a_text_that_changes_while_it_is_trained_on_is_one_line(
    text: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "run"

    def spoil(_: object, state: object) -> None:
        (path,) = (cache_folder() / "prepared").glob("*/train.bin")
        if change == "truncated":
            os.truncate(path, path.stat().st_size // 2)
        elif change == "overwritten":
            content = path.read_bytes()
            path.write_bytes(bytes(len(content)))
            os.utime(path, (1, 1))
        else:
            path.with_suffix(".new").write_bytes(b"\0" * path.stat().st_size)
            os.replace(path.with_suffix(".new"), path)

    spoilt = iter([False, False, True])
    with after_each_step(lambda *given: next(spoilt, None) and spoil(*given)):
        line = [*arguments(text, out, "--train.save_interval=2", "--quiet", budget="6steps")]
        if change == "replaced":  # an open file stays what it was; the next command looks again
            assert command(*line)[0] == 0
        else:
            said = refused(*line)
            assert "train.bin" in said
            assert "run the same command again" in said
    code, _, err = command(*line)
    assert code == 0, err
    train(text, tmp_path / "straight", "6steps", train__save_interval=2)
    assert everything(out) == everything(tmp_path / "straight")


def test_another_number_of_processes_is_said_and_reads_the_same_text(
    text: Path, tmp_path: Path
) -> None:
    train(text, tmp_path / "straight")
    with stopping_at(20), pytest.raises(Interrupted):
        train(text, tmp_path / "run")
    record = read_metadata(tmp_path / "run")
    record["environment"]["processes"] = 2  # as if two processes had begun it
    write_metadata(tmp_path / "run", {k: v for k, v in record.items() if k != "format"})
    code, _, err = command(*arguments(text, tmp_path / "run"))
    assert code == 0, err
    assert "on 1 processes, not 2" in err
    assert "dropout draws other random numbers" in err
    assert everything(tmp_path / "run") == everything(tmp_path / "straight")
    assert read_metadata(tmp_path / "run")["environment"]["processes"] == 1
    assert [event["loss"] for event in events(tmp_path / "run", "evaluation")]
