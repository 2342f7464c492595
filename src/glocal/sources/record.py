"""Records of sources, as they name their elements and versions."""

from __future__ import annotations


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
