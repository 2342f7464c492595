"""Whether the corrections of a finished run still fit the data of their communities today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glocal.errors import BadSourceError, RunError
from glocal.sources.kinds import KINDS


def check_proposals(folder: Path, extract: Path) -> dict[str, Any]:
    """Compare the proposals of the run in ``folder`` with a newer extract; change nothing.

    Returns ``checked`` and ``unchecked`` (numbers of proposals) and ``stale``: a row
    (``proposal``, ``record``, ``fate``, ``why``) for each that must not be used any more.

    Raises
    ------
    RunError
        The folder holds no corrections that a newer file can contradict.
    BadSourceError
        None of them can be checked, or the file is a history or change file.
    SourceUnavailableError
        The extract is missing or damaged.
    """
    rooms = sorted((folder / "corrections").glob("*/"))
    found = [kind.recheck(room, extract) for room in rooms for kind in KINDS]
    parts = [one for one in found if one is not None]
    if not parts:
        raise RunError(
            f"{folder} holds no proposals that a newer file can contradict (corrections/*/"
            "proposals.parquet); give the folder that 'glocal run' wrote"
        )
    number, checked = sum(one.number for one in parts), sum(one.checked for one in parts)
    if number and not checked:
        raise BadSourceError(
            f"none of the {number} proposals in {folder} names a version: the run read a layer. "
            "Run it on an extract (.osm.pbf) to get proposals that can be checked"
        )
    rows = [row for one in parts for row in one.stale]
    return {"checked": checked, "unchecked": number - checked, "stale": rows}
