"""The kinds of sources there are. A new one is a room of its own, and a word in this tuple."""

from __future__ import annotations

from glocal.sources.field.kind import Field
from glocal.sources.images.kind import Images
from glocal.sources.kind import Kind
from glocal.sources.maps.kind import Maps
from glocal.sources.models.kind import Models
from glocal.sources.osm.kind import Osm
from glocal.sources.people.kind import People
from glocal.sources.rules.kind import Rules

KINDS: tuple[Kind, ...] = (Images(), Rules(), Osm(), Field(), Maps(), Models(), People())


def kind_called(word: str) -> Kind:
    """Return the kind that ``kind: word`` means in area.yaml; raises ``KeyError`` for none."""
    return {one: kind for kind in KINDS for one in kind.words()}[word]
