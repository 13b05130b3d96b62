"""Runs the chapters of the course and writes what they print into them.

    python docs/course/make_outputs.py            # all chapters
    python docs/course/make_outputs.py 05-attention

A chapter is run from top to bottom, in one namespace. What a Python block prints is the `text`
block after it. `make_pictures.py` draws from the same namespace, so that text, code and pictures
have the same numbers; tests/docs/test_course.py compares all of them.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

COURSE = Path(__file__).parent
ROOT = COURSE.parents[1]
CODE = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.M | re.S
)


def chapters() -> list[Path]:
    """The chapters in their order."""
    return sorted(COURSE.glob("[0-9]*.md"))


def run_chapter(page: str) -> tuple[dict[str, Any], list[str]]:
    """The variables that the code of a chapter leaves, and what each block prints."""
    import numpy as np
    import torch

    names: dict[str, Any] = {"__name__": "chapter"}
    printed = []
    before, dtype, threads = Path.cwd(), torch.get_default_dtype(), torch.get_num_threads()
    torch.set_num_threads(1)  # waiting for each other, threads take longer over so small matrices
    os.chdir(ROOT)
    options = np.get_printoptions()
    try:
        for block in CODE.finditer(page):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(block["code"], names)  # noqa: S102  # our own pages
            lines = output.getvalue().splitlines()
            printed.append("".join(f"{line.rstrip()}\n" for line in lines))
    finally:
        os.chdir(before)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        np.set_printoptions(**options)
    return names, printed


def with_outputs(page: str, printed: list[str]) -> str:
    """A chapter with these outputs after its Python blocks."""
    outputs = iter(printed)

    def write(block: re.Match[str]) -> str:
        output = next(outputs)
        code = f"```python\n{block['code']}```\n"
        return f"{code}\n```text\n{output}```\n" if output else code

    return CODE.sub(write, page)


def main() -> None:
    """Writes the outputs and pictures of the chapters that are named, or of all."""
    from make_pictures import write_picture

    for path in chapters():
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            page = path.read_text(encoding="utf-8")
            names, printed = run_chapter(page)
            path.write_text(with_outputs(page, printed), encoding="utf-8")
            write_picture(path.stem, names)
            print(path.stem)


if __name__ == "__main__":
    main()
