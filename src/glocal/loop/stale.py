"""Whether the proposals of a finished run still fit OpenStreetMap as it is today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from glocal.errors import BadSourceError, RunError
from glocal.io.vector import read_table
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.stale import stale_proposals, what_can_be_stale

__all__ = ["check_proposals"]


def check_proposals(folder: Path, extract: Path) -> dict[str, Any]:
    """Compare the proposals of the run in ``folder`` with a newer extract; change nothing.

    Returns ``checked`` and ``unchecked`` (numbers of proposals) and ``stale``: a row
    (``proposal``, ``record``, ``fate``, ``why``) for each that must not be used any more.

    Raises
    ------
    RunError
        The folder holds no proposals to OpenStreetMap.
    BadSourceError
        None of them can be checked, or the file is a history or change file.
    SourceUnavailableError
        The extract is missing or damaged.
    """
    paths = sorted((folder / "corrections").glob(f"*/{INDEX}"))
    if not paths:
        raise RunError(
            f"{folder} holds no proposals to OpenStreetMap (corrections/*/{INDEX}); give the "
            "folder that 'glocal run' wrote"
        )
    rows, checked, number = [], 0, 0
    for path in paths:
        index = read_table(path)
        number += int((index["fate"] != "later").sum())
        some = what_can_be_stale(index)
        checked += len(some)
        why = stale_proposals(some, extract)
        told = pd.DataFrame(some[some["proposal"].isin(list(why))])[["proposal", "record", "fate"]]
        rows += [{**one, "why": why[one["proposal"]]} for one in told.to_dict("records")]
    if number and not checked:
        raise BadSourceError(
            f"none of the {number} proposals in {folder} names a version: the run read a layer. "
            "Run it on an extract (.osm.pbf) to get proposals that can be checked"
        )
    return {"checked": checked, "unchecked": number - checked, "stale": rows}
