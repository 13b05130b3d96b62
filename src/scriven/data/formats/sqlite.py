"""SQLite databases, opened for reading alone: a row of a table is a document.

`FILE.db:TABLE.COLUMN` names the table and the column; both may be left out where there is one.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InputError
from ...format import plural
from ...registry import did_you_mean
from ...settings import DataSettings
from ..documents import plain_file, reading
from .base import LARGEST_ROW, Record, missing_column

SUFFIXES = (".db", ".sqlite", ".sqlite3")
NAME = "SQLite databases"

_BATCH_ROWS = 1000


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every row of a table in the order of the file, of the given columns or of all.

    Views and virtual tables are not read, since they run what the database says.

    Raises:
        InputError: no database, a damaged one, or no such table or column.
    """
    with plain_file(path) as file, reading(path, "a SQLite database"):
        address = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * LARGEST_ROW)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            table = _table(connection, path, settings)
            query = f"SELECT * FROM {_quoted(table)}"  # noqa: S608
            names = [entry[0] for entry in connection.execute(f"{query} LIMIT 0").description]
            for column in columns:
                if column not in names:
                    raise InputError(missing_column(path, 1, column, names, columns))
            wanted = ", ".join(map(_quoted, columns or names))
            rows = connection.execute(f"SELECT {wanted} FROM {_quoted(table)}")  # noqa: S608
            number = 0
            while batch := rows.fetchmany(_BATCH_ROWS):
                for row in batch:
                    number += 1
                    yield Record(dict(zip(columns or names, row, strict=True)), number)
        finally:
            connection.close()


def _table(connection: sqlite3.Connection, path: Path, settings: DataSettings) -> str:
    """The table to read: `data.table`, or the only one."""
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    known = [
        name
        for name, sql in found
        if not name.startswith("sqlite_") and not str(sql).upper().startswith("CREATE VIRTUAL")
    ]
    if settings.table is None and len(known) != 1:
        raise InputError(
            f"{path} has {plural(len(known), 'table')}"
            + (f": name one, as {path.name}:TABLE.COLUMN with {', '.join(known)}" if known else "")
        )
    table = settings.table or known[0]
    if table not in known:
        raise InputError(f"{path} has no table {table!r}: {did_you_mean(table, known)}")
    return table


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
