"""Two small runs that several files of tests read, made once; nobody writes into them."""

from pathlib import Path

import pytest

import scriven

SHAPE = {"model.layers": 1, "model.heads": 2, "model.d_model": 32, "model.context_length": 16}


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.txt, rows.csv, and the runs `language` and `labels` made of them."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "text.txt").write_text("Es war naß — «буря» 😀.\n" * 90, encoding="utf-8")
    rows = (f"{('gut', 'böse')[n % 2]} день {n},{('да', 'nein😀')[n % 2]}\n" for n in range(60))
    (folder / "rows.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
        scriven.train("text.txt", out="language", budget="4steps", settings=SHAPE, quiet=True)
        scriven.finetune("language", "rows.csv", out="labels", budget="4steps", quiet=True)
    return folder
