"""Our own echo in OpenStreetMap: words that came from our corrections are no new evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import shapely

from glocal.core.answer import Answered
from glocal.core.observation import Observations
from glocal.sources.answers.settled import covers
from glocal.sources.osm.heard_edits import meant_by_symbol
from glocal.sources.record import element_of, version_of


def muted(source: Observations, answers: Answered) -> Observations:
    """Return an OSM source without the words that came from our own corrections.

    Where an element was proposed a class, has a newer version, and says that class, its tag
    is our echo: it gets no voice, and the answer of the person who looked has one. So too
    for an object drawn where something was proposed as missing. Elements that people found
    right already (``already_fixed``) keep theirs. Somebody may have made the same edit
    without us: then a little evidence is lost, which is the safer side.
    """
    asked = answers.take(answers.verdict != "already_fixed")
    base_of: dict[str, dict[str, int]] = {}  # by element: classes proposed, and base version
    for record, proposed in zip(asked.record.tolist(), asked.proposed.tolist(), strict=True):
        if version_of(record):
            base_of.setdefault(element_of(record), {})[proposed] = version_of(record)
    echo = np.zeros(len(source), bool)
    words = source.words.tolist()
    for i, (record, word) in enumerate(zip(source.record.tolist(), words, strict=True)):
        base = base_of.get(element_of(record), {})
        if word and base:
            said = meant_by_symbol(word, source.legend)
            echo[i] = any(version_of(record) > base[one] for one in said if one in base)
    drawn, tree = asked.take(asked.fault == "missing"), shapely.STRtree(source.geometry)
    for place, proposed in zip(drawn.geometry, drawn.proposed.tolist(), strict=True):
        for at in tree.query(place, predicate="intersects").tolist():
            if proposed in meant_by_symbol(words[at], source.legend):
                echo[at] |= covers(source.geometry[at], place)
    return replace(source, symbols=np.where(echo, 0, source.symbols).astype(source.symbols.dtype))
