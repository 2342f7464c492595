"""What the words of field observers mean in the target legend."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from glocal.core.concepts import concept_of
from glocal.core.legend import Legend
from glocal.errors import LegendMismatchError

Shares = dict[str, float]

SILENT = frozenset(
    {"", "cloud", "clouds", "nodata", "no data", "none", "null", "na", "n/a", "nan", "unknown"}
    | {"non-response", "not visible", "not relevant", "8"}
)
"""Texts that mean: looked, could not tell. ``8`` is LUCAS for "not relevant"."""

CONFIDENCES: dict[str, tuple[float, float]] = {
    "high": (0.95, 0.0),
    "med": (0.80, 0.15),
    "low": (0.60, 0.35),
    "": (0.85, 0.10),
}
"""Prior shares of the main and the second class. Declared by us, not measured: they only
start the source's reliability, which is learned from the data afterwards."""

LUCAS: dict[str, Shares] = {
    "A": {"built": 1.0},
    "B": {"crop": 1.0},
    "B55": {"crop": 0.5, "grass": 0.5},
    "B7": {"tree": 0.8, "crop": 0.1, "shrub": 0.1},
    "B8": {"crop": 0.4, "shrub": 0.4, "tree": 0.2},
    "C": {"tree": 1.0},
    "D": {"shrub": 1.0},
    "E": {"grass": 1.0},
    "F": {"bare": 1.0},
    "F30": {"moss": 1.0},
    "G": {"water": 1.0},
    "G50": {"snow": 1.0},
    "H": {"wetland": 1.0},
    "H22": {"water": 0.4, "bare": 0.6},
    "H23": {"water": 0.5, "bare": 0.5},
}
"""LUCAS land cover codes, longest prefix wins. From the definitions of LUCAS and of
WorldCover (woody permanent crops are tree or shrub cover there); shares are ours."""

LUCAS_CODE = re.compile(r"[A-H](\d[0-9Xx]{0,2})?$")

LUCAS_SEEN = {
    "1": "high",
    "2": "med",
    "3": "med",
    "7": "med",
    "in situ < 100 m": "high",
    "in situ > 100 m": "med",
    "in situ pi": "med",
    "in office pi": "med",
}
"""How a LUCAS point was seen, as confidence: close, from afar, on a photograph."""


def is_silent(text: str) -> bool:
    """Return True for a text that means "could not tell".

    >>> is_silent(" Cloud "), is_silent("tree")
    (True, False)
    """
    return text.strip().lower() in SILENT


def lucas_confidence(text: str) -> str:
    """Return the confidence for a LUCAS ``obs_type``; ``low`` for what is not listed."""
    return LUCAS_SEEN.get(text.strip().lower().removesuffix(".0"), "low")


def confidence_word(text: str) -> str | None:
    """Return ``high``, ``med``, ``low`` or empty; ``None`` when the text is none of these.

    >>> confidence_word("Medium"), confidence_word("0.95"), confidence_word("maybe")
    ('med', 'high', None)
    """
    word = text.strip().lower()
    known = {"high": "high", "med": "med", "medium": "med", "low": "low"}
    if is_silent(word) and word != "8":
        return ""
    try:
        number = -1.0 if word in known else float(word)
    except ValueError:
        return None
    if not 0 <= number <= 1:
        return known.get(word)
    return "high" if number >= 0.9 else "med" if number >= 0.7 else "low"


def meanings(
    texts: Iterable[str], legend: Legend, class_names: Mapping[str, int | str] | None = None
) -> dict[str, Shares]:
    """Return the shares of legend classes for each distinct text.

    Tried in this order: ``class_names``; value, name or title of a class; words (a
    synonym of exactly one concept); a LUCAS code. A text that means "could not tell" gets no
    shares; one whose class the legend lacks gets shares under the name of its concept, which
    is no class of the legend.

    Raises
    ------
    LegendMismatchError
        Names the texts that nothing explains, with their counts.
    """
    counts = Counter(text.strip() for text in texts)
    found = {text: _meaning(text, legend, class_names or {}) for text in sorted(counts)}
    unknown = [text for text, shares in found.items() if shares is None]
    if unknown:
        listed = ", ".join(f"{text!r} ({counts[text]} rows)" for text in unknown[:10])
        raise LegendMismatchError(
            f"{len(unknown)} classes are not known in legend {legend.name}: {listed}; say what "
            f"they mean with class_names, to one of: {', '.join(legend.names)} "
            "(an empty name for 'could not tell')"
        )
    return {text: shares for text, shares in found.items() if shares is not None}


def _meaning(text: str, legend: Legend, given: Mapping[str, int | str]) -> Shares | None:
    if text in given:
        key = given[text]
        return {legend.names[legend.index(key)]: 1.0} if key != "" else {}
    for one in legend.classes:
        if text.lower() in (str(one.value), one.name.lower(), one.title.lower()):
            return {one.name: 1.0}
    if is_silent(text):
        return {}
    concept = concept_of(text)
    if concept:
        return _classes_of({concept: 1.0}, legend)
    if LUCAS_CODE.match(text.upper()):
        prefixes = (text.upper()[:n] for n in range(len(text), 0, -1))
        return _classes_of(next(LUCAS[p] for p in prefixes if p in LUCAS), legend)
    return None


def _classes_of(concepts: Shares, legend: Legend) -> Shares:
    """Spread the share of each concept evenly over the legend's classes that are about it."""
    shares: Shares = {}
    for concept, share in concepts.items():
        members = [one.name for one in legend.classes if one.concept == concept]
        for name in members or [concept]:
            shares[name] = shares.get(name, 0.0) + share / max(len(members), 1)
    return shares


def class_of_text(text: str, legend: Legend) -> str:
    """Return the class of ``legend`` that a word surely means, else an empty string."""
    try:
        shares = meanings([text], legend)[text.strip()]
    except LegendMismatchError:
        return ""
    name = max(shares, key=lambda one: shares[one], default="")
    return name if name in legend.names and shares[name] > 0.5 else ""
