"""Lineage as W3C PROV-JSON, from values alone: no clock, no machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from glocal.core.provenance import Provenance

PREFIX = "https://glocal.invalid/ns#"
"""Names in a document are its own; nothing is to be fetched from this address."""

LETTERS = "ugdwt"
"""What the relations of each kind are numbered with, in their order in a document."""


def prov_document(
    outputs: Mapping[str, Provenance],
    inputs: Mapping[str, Provenance],
    *,
    activity: str,
    software: Mapping[str, str],
    previous: str = "",
) -> dict[str, Any]:
    """Return the PROV-JSON document of one activity.

    ``outputs`` and ``inputs`` are by name, ``activity`` is unique in a run (``fuse-round-3``),
    ``software`` gives versions by name, and ``previous`` names the result that this one replaces.
    Each round makes new entities, so that lineage never turns in a circle: a result of
    round 3 derives from one of round 2, not from itself.

    >>> one = Provenance(activity="read", agent="ESA", licences={"Copernicus"}, roots={"s2"})
    >>> made = Provenance.derive("fuse", [one])
    >>> document = prov_document({"map-r1": made}, {"scene": one}, activity="fuse-round-1",
    ...                          software={"glocal": "0.1.0"})
    >>> sorted(document["entity"])
    ['gl:map-r1', 'gl:scene']
    """
    act = _name(activity)
    agents = {
        _name(f"{name}-{version}"): {"prov:type": "prov:SoftwareAgent"}
        for name, version in sorted(software.items())
    }
    people = {_name(one.agent): {"prov:label": one.agent} for _, one in sorted(inputs.items())}
    made = [_name(name) for name in sorted(outputs)]
    entity = {_name(name): _entity(one) for name, one in sorted({**inputs, **outputs}.items())}
    used = [_name(name) for name in [*sorted(inputs), *([previous] if previous else [])]]
    for name in used:
        entity.setdefault(name, {})
    relations = {
        "used": [{"prov:activity": act, "prov:entity": one} for one in used],
        "wasGeneratedBy": [{"prov:entity": one, "prov:activity": act} for one in made],
        "wasDerivedFrom": [
            {"prov:generatedEntity": new, "prov:usedEntity": old, "prov:activity": act}
            for new in made
            for old in used
        ],
        "wasAssociatedWith": [{"prov:activity": act, "prov:agent": one} for one in agents],
        "wasAttributedTo": [
            {"prov:entity": _name(name), "prov:agent": _name(one.agent)}
            for name, one in sorted(inputs.items())
        ],
    }
    numbered = {
        name: {f"_:{letter}{i}": row for i, row in enumerate(rows, start=1)}
        for letter, (name, rows) in zip(LETTERS, relations.items(), strict=True)
    }
    return {
        "prefix": {"gl": PREFIX},
        "entity": entity,
        "activity": {act: {"prov:label": activity}},
        "agent": {**people, **agents},
        **numbered,
    }


def _name(text: str) -> str:
    return "gl:" + quote(text, safe="-._~")


def _entity(one: Provenance) -> dict[str, Any]:
    said: dict[str, Any] = {
        "gl:activity": one.activity,
        "gl:licence": sorted(one.licences),
        "gl:roots": sorted(one.roots),
        "gl:labels": sorted(one.labels),
        "gl:used": list(one.used),
        "gl:attribution": list(one.attribution),
        "gl:software": one.software,
        "prov:generatedAtTime": one.generated_at and one.generated_at.isoformat(),
    }
    return {key: value for key, value in said.items() if value}
