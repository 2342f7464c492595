"""Write the figures of the stored results into the documents.

    python -m benchmarks.tables [--check]

Between ``<!-- table NAME/TABLE -->`` and ``<!-- /table -->`` stands a table of
``results/NAME.json``; below the first of each result, who made it. A figure in a sentence is a link
to its cell: ``[0.927](…/results/NAME.json#TABLE/ROW/COLUMN)``, in lower case, words joined by
hyphens. ``--check`` changes nothing, and fails where a document does not say what the results say.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial
from pathlib import Path

from benchmarks.stored import RESULTS, read
from glocal.io.atomic import write_text

ROOT = RESULTS.parents[1]
TABLE = re.compile(r"(<!-- table (\w+)/([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
FIGURE = re.compile(r"\[[^\[\]]*\](\([^()\s#]*results/(\w+)\.json#([^()\s]*)\))")


def documents() -> list[Path]:
    """Return the documents that hold figures."""
    pages = sorted((ROOT / "docs" / "benchmarks").glob("*.md"))
    return [ROOT / "README.md", ROOT / "docs" / "benchmarks.md", *pages]


def written(text: str, folder: Path) -> str:
    """Return a document that lies in ``folder`` with the tables and figures of the results in it.

    Raises
    ------
    ValueError
        A mark is not closed, or names a result, table or cell that there is not.
    """
    marks = [text.count("<!-- table "), text.count("<!-- /table -->"), len(TABLE.findall(text))]
    if len(set(marks)) > 1:
        raise ValueError("each <!-- table NAME/TABLE --> must be closed by <!-- /table -->")
    return FIGURE.sub(_figure, TABLE.sub(partial(_table, folder=folder, seen=set()), text))


def _table(found: re.Match[str], *, folder: Path, seen: set[str]) -> str:
    first, name, table, last = found.groups()
    result = read(name)
    content = f"{result.table(table).markdown()}\n"
    if name not in seen:
        seen.add(name)
        link = Path(os.path.relpath(RESULTS, folder), f"{name}.json").as_posix()
        content += f"\n<sub>{result.about}; [all figures]({link})</sub>\n"
    return first + content + last


def _figure(found: re.Match[str]) -> str:
    target, name, place = found.groups()
    if place.count("/") != 2:
        raise ValueError(f"{place!r} must be TABLE/ROW/COLUMN of {name}.json")
    table, row, column = place.split("/")
    return f"[{read(name).table(table).figure(row, column)}]{target}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if out of date")
    check = parser.parse_args().check
    stale = []
    for path in documents():
        old = path.read_text("utf-8")
        new = written(old, path.parent)
        if new != old:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                write_text(path, new)
    if stale:
        print(f"{'out of date' if check else 'written'}: {', '.join(stale)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
