"""Records of sources and ids of corrections: written here, and read here."""

from __future__ import annotations

import hashlib


def correction_id(source: str, record: str, proposed: str) -> str:
    """Return the id of a correction; the same record, version and class give the same id.

    The round is not part of it: what is proposed again is the same correction.

    >>> correction_id("osm", "way/1@2", "tree_cover")
    'g-3c435c83ce1c'
    """
    return "g-" + hashlib.sha256(f"{source}|{record}|{proposed}".encode()).hexdigest()[:12]


def element_of(record: str) -> str:
    """Return a record without its version.

    >>> element_of("way/12@4"), element_of("point7")
    ('way/12', 'point7')
    """
    return record.partition("@")[0]


def version_of(record: str) -> int:
    """Return the version of a record, 0 where it has none.

    >>> version_of("way/12@4"), version_of("point7")
    (4, 0)
    """
    text = record.partition("@")[2]
    return int(text) if text.isdigit() else 0
