"""What classes are about, apart from how a legend calls and numbers them.

A concept is one of eleven kinds of cover, those of ESA WorldCover. Every class of every legend
either has one or has none, decided once when the legend is made; all that is said or done about
trees or water asks for the concept, never for a code or a name.
"""

from __future__ import annotations

import re

WORDS: dict[str, frozenset[str]] = {
    "tree": frozenset({"tree", "trees", "treecover", "forest", "wood", "woods", "woodland"}),
    "shrub": frozenset({"shrub", "shrubs", "shrubland", "scrub", "bush", "bushes", "heath"}),
    "grass": frozenset({"grass", "grasses", "grassland", "meadow", "meadows", "pasture"}),
    "crop": frozenset({"crop", "crops", "cropland", "arable", "farmland", "cultivated"})
    | {"agriculture", "agricultural"},
    "built": frozenset({"built", "builtup", "urban", "artificial", "settlement", "impervious"})
    | {"residential", "building", "buildings", "road", "roads"},
    "bare": frozenset({"bare", "bareland", "barren", "sparse", "soil", "rock", "sand"}),
    "snow": frozenset({"snow", "ice", "glacier", "glaciers"}),
    "water": frozenset({"water", "lake", "river", "pond", "sea", "stream", "canal", "reservoir"}),
    "wetland": frozenset({"wetland", "wetlands", "marsh", "swamp", "bog", "flooded", "reed"})
    | {"marshes", "peatland", "mire", "fen"},
    "mangrove": frozenset({"mangrove", "mangroves"}),
    "moss": frozenset({"moss", "lichen", "lichens"}),
}
"""English words for each concept."""

CONCEPTS = tuple(WORDS)

UNCLEAR = frozenset({"non", "not", "no", "without", "green", "mosaic"})
"""Words that turn or blur the meaning ("not built", "green urban area"): better ask."""


def concept_of(text: str) -> str:
    """Return the one concept that the words of ``text`` belong to; empty without exactly one.

    >>> concept_of("Deciduous forest"), concept_of("not built"), concept_of("Wald")
    ('tree', '', '')
    """
    words = set(re.findall(r"[a-z]+", text.lower().replace("built-up", "built")))
    if words & UNCLEAR:
        return ""
    hits = [concept for concept, synonyms in WORDS.items() if words & synonyms]
    return hits[0] if len(hits) == 1 else ""
