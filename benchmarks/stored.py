"""What a run of a benchmark found: tables of numbers and who made them, a file of ``results``.

A cell is a text, a number, nothing, or a number with its lower and upper end. A column of numbers
says with how many digits they are shown, and which of them is best. `benchmarks.tables` writes
them into the documents.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

from glocal import __version__
from glocal.io.atomic import write_text

__all__ = [
    "RESULTS",
    "Cell",
    "Column",
    "Result",
    "Table",
    "add_save",
    "keep",
    "means",
    "pivot",
    "read",
    "slug",
    "span",
    "to_json",
]

RESULTS = Path(__file__).parent / "results"

Cell = str | float | tuple[float, float, float] | None


def slug(name: str) -> str:
    """Return a name as it is written in links.

    >>> slug("loop, exponents 1"), slug("accuracy ↑")
    ('loop-exponents-1', 'accuracy')
    """
    return re.sub(r"\W+", "-", name.lower()).strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What the cells of one column are, and how they are shown."""

    name: str
    digits: int | None = None
    """Decimals of its numbers; None for a column of texts."""

    signed: bool = False
    """Whether positive numbers get a plus."""

    best: str = ""
    """``max`` or ``min``: which number is set bold."""

    def __post_init__(self) -> None:
        if self.digits is not None and not 0 <= self.digits <= 6:
            raise ValueError(f"column {self.name!r}: digits must be 0 to 6, got {self.digits}")
        if self.best not in ("", "max", "min"):
            raise ValueError(f"column {self.name!r}: best must be max or min, got {self.best!r}")

    def check(self, cell: Cell) -> None:
        """Raise a ValueError where the column can't hold the cell."""
        numbers = cell if isinstance(cell, tuple) else (cell,)
        if self.digits is None:
            good = isinstance(cell, str | None)
        else:
            good = cell is None or all(isinstance(one, int | float) for one in numbers)
            good = good and all(isfinite(one) for one in numbers if isinstance(one, int | float))
            good = good and (len(numbers) == 1 or (len(numbers) == 3 and numbers[1] <= numbers[2]))
        if not good:
            raise ValueError(f"column {self.name!r} can't hold {cell!r}")

    def value(self, cell: Cell) -> str:
        """Return a cell as it is shown, without its ends."""
        cell = cell[0] if isinstance(cell, tuple) else cell
        if cell is None or isinstance(cell, str):
            return cell or ""
        return f"{cell:{'+' if self.signed else ''},.{self.digits}f}"

    def shown(self, cells: Sequence[Cell]) -> list[str]:
        """Return all cells as they are shown, the best value in bold."""
        top = ""
        if self.best:
            first = (one[0] if isinstance(one, tuple) else one for one in cells)
            numbers = [one for one in first if isinstance(one, int | float)]
            if len(numbers) > 1:
                top = self.value({"max": max, "min": min}[self.best](numbers))
        out = []
        for cell in cells:
            value = self.value(cell)
            value = f"**{value}**" if value and value == top else value
            ends = map(self.value, cell[1:]) if isinstance(cell, tuple) else ()
            out.append(f"{value} ({' to '.join(ends)})" if isinstance(cell, tuple) else value)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows and columns that have names; a row is called by its texts before the first number."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if not self.columns or self.columns[0].digits is not None:
            raise ValueError("the first column of a table names the rows: give it no digits")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row must have {len(self.columns)} cells, got {row}")
            for column, cell in zip(self.columns, row, strict=True):
                column.check(cell)
        for what, names in (("columns", [one.name for one in self.columns]), ("rows", self.names)):
            if len(set(map(slug, names))) != len(names):
                raise ValueError(f"{what} must have names of their own, got {names}")

    @property
    def names(self) -> list[str]:
        """Names of the rows."""
        numeric = [one.digits is not None for one in self.columns] + [True]
        return [", ".join(map(str, row[: numeric.index(True)])) for row in self.rows]

    def figure(self, row: str, column: str) -> str:
        """Return the number at a place as it is shown, row and column called by their `slug`.

        Raises
        ------
        ValueError
            Where the table has no such place.
        """
        rows, columns = ([slug(n) for n in names] for names in (self.names, self._heads()))
        if row not in rows or column not in columns:
            raise ValueError(f"{row}/{column} is not one of {rows} and one of {columns}")
        at = columns.index(column)
        return self.columns[at].value(self.rows[rows.index(row)][at])

    def markdown(self) -> str:
        """Return the table as Markdown."""
        cells = [c.shown([row[i] for row in self.rows]) for i, c in enumerate(self.columns)]
        ruler = ["---" if one.digits is None else "---:" for one in self.columns]
        lines = [self._heads(), ruler, *zip(*cells, strict=True)]
        return "\n".join(f"| {' | '.join(one)} |" for one in lines)

    def _heads(self) -> list[str]:
        return [one.name for one in self.columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one command found."""

    command: str
    version: str
    """Of the package."""

    date: str
    """Day of the run, YYYY-MM-DD."""

    machine: str
    seeds: tuple[int, ...]
    notes: str = ""
    """What must be known to read the figures."""

    tables: Mapping[str, Table]

    def __post_init__(self) -> None:
        date.fromisoformat(self.date)
        if not (self.command and self.version and self.machine and self.tables):
            raise ValueError("a result names its command, version and machine, and has a table")
        if any(slug(name) != name for name in self.tables):
            raise ValueError(f"tables are called by lower-case words, got {list(self.tables)}")

    def table(self, name: str) -> Table:
        """Return a table by name; raises a ValueError where there is none."""
        if name not in self.tables:
            raise ValueError(f"there is no table {name!r}, only {list(self.tables)}")
        return self.tables[name]

    @property
    def about(self) -> str:
        """Who made the figures, in a sentence."""
        seeds = ", ".join(map(str, self.seeds))
        if len(self.seeds) > 2 and self.seeds == tuple(range(self.seeds[0], self.seeds[-1] + 1)):
            seeds = f"{self.seeds[0]} to {self.seeds[-1]}"
        dealt = f"seed{'s' if len(self.seeds) > 1 else ''} {seeds}" if seeds else ""
        made = (f"`{self.command}`", dealt, f"version {self.version}", self.date, self.machine)
        return "; ".join(one for one in (*made, self.notes) if one)


def span(values: Sequence[float]) -> Cell:
    """Return the mean of values with the smallest and the largest; equal ones as one number."""
    low, high = min(values), max(values)
    return (mean(values), low, high) if low < high else low


def pivot(head: str, columns: Sequence[Column], values: Iterable[tuple[str, str, float]]) -> Table:
    """Return a table of the spans of values that are told as (row, column, value).

    Columns are chosen by ``columns``; rows keep the order in which they are told.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row, column, value in values:
        found.setdefault(row, {}).setdefault(column, []).append(value)
    rows = (
        (row, *(span(cells[one.name]) if one.name in cells else None for one in columns))
        for row, cells in found.items()
    )
    return Table(columns=(Column(name=head), *columns), rows=tuple(rows))


def means(values: Iterable[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    """Return the mean over columns of each row, told as its column "mean" (`pivot`)."""
    found: dict[str, list[float]] = {}
    for row, _, value in values:
        found.setdefault(row, []).append(value)
    return [(row, "mean", mean(several)) for row, several in found.items()]


def read(name: str) -> Result:
    """Return a stored result.

    Raises
    ------
    ValueError
        There is no such result, or the file holds none.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        known = sorted(one.stem for one in RESULTS.glob("*.json"))
        raise ValueError(f"there is no result {name!r}, only {known}")
    try:
        told = json.loads(path.read_text("utf-8"))
        tables = {key: _table(**one) for key, one in told["tables"].items()}
        return Result(**{**told, "seeds": tuple(told["seeds"]), "tables": tables})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} holds no result of a benchmark: {error}") from error


def _table(columns: list[dict[str, Any]], rows: list[list[Any]]) -> Table:
    return Table(
        columns=tuple(Column(**one) for one in columns),
        rows=tuple(tuple(tuple(x) if isinstance(x, list) else x for x in row) for row in rows),
    )


def to_json(result: Result) -> str:
    """Return a result as JSON, one row to a line; numbers keep two digits more than are shown."""
    plain = asdict(Column(name=""))
    tables = []
    for name, table in result.tables.items():
        columns = [
            {key: value for key, value in asdict(one).items() if value != plain[key]}
            for one in table.columns
        ]
        rows = [
            [_rounded(column, cell) for column, cell in zip(table.columns, row, strict=True)]
            for row in table.rows
        ]
        parts = [f'   "columns": {_lines(columns)}', f'   "rows": {_lines(rows)}']
        tables.append(f"  {_text(name)}: {{\n" + ",\n".join(parts) + "\n  }")
    about = (key for key in Result.__slots__ if key != "tables")
    head = [f" {_text(key)}: {_text(getattr(result, key))}" for key in about]
    body = ' "tables": {\n' + ",\n".join(tables) + "\n }"
    return "{\n" + ",\n".join([*head, body]) + "\n}\n"


def _lines(values: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(f"    {_text(one)}" for one in values) + "\n   ]"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _rounded(column: Column, cell: Cell) -> Any:
    if column.digits is None or cell is None or isinstance(cell, str):
        return cell
    spare = column.digits + 2
    return [round(x, spare) for x in cell] if isinstance(cell, tuple) else round(cell, spare)


def add_save(parser: argparse.ArgumentParser) -> None:
    """Add the option that keeps what a benchmark finds."""
    parser.add_argument(
        "--save",
        metavar="NAME",
        default="",
        help="keep the tables as benchmarks/results/NAME.json, for python -m benchmarks.tables",
    )


def keep(name: str, tables: Mapping[str, Table], seeds: Sequence[int], notes: str = "") -> None:
    """Print the tables of a run; where a name is given, keep them as that result."""
    for title, table in tables.items():
        print(f"\n{title}\n\n{table.markdown()}", flush=True)
    if name:
        result = Result(
            command=_command(),
            version=__version__,
            date=date.today().isoformat(),
            machine=_machine(),
            seeds=tuple(seeds),
            notes=notes,
            tables=tables,
        )
        write_text(RESULTS / f"{name}.json", to_json(result))


def _command() -> str:
    """Return how this process was called; of whole paths only the last part."""
    words = [f".../{Path(one).name}" if Path(one).is_absolute() else one for one in sys.argv[1:]]
    threads = os.environ.get("OMP_NUM_THREADS")
    called = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *words])
    return f"OMP_NUM_THREADS={threads} {called}" if threads else called


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text("utf-8") if info.is_file() else "")
    processor = named[1].strip() if named else platform.machine()
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {processor}, {gib:.0f} GiB, Python {python}"
