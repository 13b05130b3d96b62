"""Trains a model on documents as they lie around: a page, a mail, a chat, a database, an archive.

python examples/own_documents.py --budget 1m          # on a small folder that it makes
python examples/own_documents.py --folder ~/Documents --budget 10m
"""

import argparse
import json
import sqlite3
import zipfile
from email.message import EmailMessage
from pathlib import Path

import scriven

LINES = [f"Mira counted {n} lanterns, and the rain fell on the old mill." for n in range(60)]


def make_folder(folder: Path) -> None:
    """Writes a few documents with the standard library."""
    folder.mkdir(exist_ok=True)
    page = "".join(f"<p>{line}</p>" for line in LINES)
    (folder / "page.html").write_text(f"<html><body><script>no()</script>{page}</body></html>")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "mira@a.example", "jon@b.example", "Lanterns"
    mail.set_content("\n".join(LINES))
    (folder / "mail.eml").write_bytes(mail.as_bytes())
    messages = [{"type": "message", "from": "Mira", "text": line} for line in LINES]
    chat = {"name": "Mira", "type": "personal_chat", "id": 1, "messages": messages}
    (folder / "chat.json").write_text(json.dumps(chat))
    (folder / "diary.db").unlink(missing_ok=True)
    with sqlite3.connect(folder / "diary.db") as diary:
        diary.execute("CREATE TABLE days (day INTEGER, text TEXT)")
        diary.executemany("INSERT INTO days VALUES (?, ?)", list(enumerate(LINES)))
    diary.close()
    with zipfile.ZipFile(folder / "notes.zip", "w") as notes:
        notes.writestr("notes.md", "\n".join(LINES))
    (folder / "mill.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # passed over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--budget", default="1m")
    arguments = parser.parse_args()
    folder = arguments.folder or Path("documents")
    if arguments.folder is None:
        make_folder(folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>8,} bytes  {path}")
    # the first lines say what is read, passed over and refused
    settings = {"data.skip_bad_files": True}
    model = scriven.train(str(folder), budget=arguments.budget, settings=settings)
    print(model.generate("Mira", max_new_tokens=100))


if __name__ == "__main__":
    main()
