"""Tables of field points without the people in them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import geopandas as gpd
import pandas as pd

from glocal.io.vector import read_table

log = logging.getLogger(__name__)

PEOPLE = frozenset(
    {"observer", "surveyor", "enumerator", "interviewer", "collector", "interpreter", "mapper"}
    | {"reviewer", "submitter", "contributor", "creator", "author", "editor", "photographer"}
    | {"farmer", "owner", "respondent", "user", "contact"}
)
"""Somebody; also with ``name`` or ``id`` behind."""

PERSONAL = frozenset(
    {"username", "uid", "deviceid", "subscriberid", "simserial", "simid", "imei", "phone"}
    | {"phonenumber", "telephone", "mobile", "email", "mail", "firstname", "lastname", "surname"}
    | {"familyname", "fullname", "submittedby", "collectedby", "recordedby", "recordedbyid"}
    | {"identifiedby", "identifiedbyid", "createdby", "editedby", "lasteditedby", "modifiedby"}
    | {"reviewedby", "validatedby", "interpretedby", "observedby", "mrmapper", "mrreviewer"}
    | {person + end for person in PEOPLE for end in ("", "name", "id")}
)
"""Columns with personal data (ODK, Kobo, Darwin Core, MapRoulette and plain words), in lower
case, without groups, spaces and underscores."""


def read_field_table(path: Path) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read a table of field points without its columns of personal data.

    They are known by their names only; free text is not searched. Errors are those of
    :func:`glocal.io.vector.read_table`.
    """
    table = read_table(path)
    private = [name for name in table.columns if is_personal(str(name))]
    if private:
        log.info("%s: columns with personal data are not read: %s", Path(path).name, private)
    return table.drop(columns=private)


def is_personal(column: str) -> bool:
    """Return True for names like ``SubmitterName``, ``meta/enumerator_name``, ``recordedBy``."""
    last = re.split(r"[/.:-]", column)[-1]
    return re.sub(r"[\s_]", "", last).lower() in PERSONAL
