"""Legends, and crosswalks between what a source says and the classes that we estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glocal.core.concepts import CONCEPTS, concept_of
from glocal.core.result import freeze
from glocal.core.setting import ENGINE
from glocal.core.typing import Bools, Codes, Table
from glocal.errors import LegendMismatchError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDef:
    """One class of a legend."""

    value: int
    """Code in a raster, 0..255."""

    name: str
    """Short machine name, letters, digits, ``_`` and ``-``."""

    title: str
    """Name for people."""

    color: str
    """Six hex digits without ``#``."""

    concept: str | None = None
    """What the class is about (`glocal.core.concepts`), empty where no concept fits; not given:
    what its name says, else its title."""

    shares: tuple[tuple[str, float], ...] = ()
    """Expected shares of the concepts in ground of this class; not given: ``concept`` alone."""

    def __post_init__(self) -> None:
        if self.concept is None:
            found = concept_of(self.name) or concept_of(self.title)
            object.__setattr__(self, "concept", found)
        strangers = {one for one in (self.concept, *dict(self.shares)) if one} - set(CONCEPTS)
        if strangers:
            raise ValueError(
                f"class {self.name}: a concept must be one of {', '.join(CONCEPTS)}, or empty; "
                f"got {', '.join(sorted(strangers))}"
            )
        if self.concept and not self.shares:
            object.__setattr__(self, "shares", ((self.concept, 1.0),))
        if not 0 <= self.value <= 255:
            raise ValueError(f"class {self.name}: value must be 0..255, got {self.value}")
        if len(self.color) != 6 or not set(self.color.lower()) <= set("0123456789abcdef"):
            raise ValueError(f"class {self.name}: color must be six hex digits, got {self.color!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """An ordered list of classes; the order is the class axis of every array."""

    name: str
    classes: tuple[ClassDef, ...]

    def __post_init__(self) -> None:
        for what in ("value", "name"):
            seen = [getattr(one, what) for one in self.classes]
            if len(set(seen)) != len(seen):
                raise ValueError(f"legend {self.name}: class {what}s must be unique, got {seen}")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Raster codes in class order."""
        return tuple(one.value for one in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Machine names in class order."""
        return tuple(one.name for one in self.classes)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Concepts in class order, empty for a class without one."""
        return tuple(one.concept or "" for one in self.classes)

    @property
    def nodata(self) -> int:
        """Raster code that no class has: 0, else the highest free one.

        Raises
        ------
        LegendMismatchError
            All 256 codes are taken.
        """
        free = sorted(set(range(256)) - set(self.values), key=lambda code: (code > 0, -code))
        if not free:
            raise LegendMismatchError(
                f"legend {self.name} takes all 256 codes, so none is left for no data; estimate "
                "fewer classes (classes: in area.yaml)"
            )
        return free[0]

    def index(self, key: int | str) -> int:
        """Return the position of a class by its value or name.

        Raises
        ------
        LegendMismatchError
            Lists what the legend holds.
        """
        for i, one in enumerate(self.classes):
            if key == one.value or key == one.name:
                return i
        known = ", ".join(f"{one.value} {one.name}" for one in self.classes)
        raise LegendMismatchError(f"legend {self.name} has no class {key!r}; it has: {known}")

    def subset(self, keys: Sequence[int | str]) -> Legend:
        """Return the legend with only these classes, in this legend's own order."""
        wanted = {self.index(key) for key in keys}
        kept = tuple(one for i, one in enumerate(self.classes) if i in wanted)
        return Legend(name=self.name, classes=kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crosswalk:
    """P(class | symbol): what a source's symbols would mean if it made no errors.

    It is only the *prior* of the source's reliability; what symbols mean here is
    learned from the data.
    """

    symbols: tuple[str, ...]
    """Names of the source's symbols 1..M; symbol 0 is always "says nothing"."""

    target: Legend
    matrix: Table
    """Shape (M, K); rows sum to 1; a uniform row means "not known"."""

    confidence: Table
    """Shape (M,); 0..1, how far the row is to be believed before any data is seen."""

    def __post_init__(self) -> None:
        shape = (len(self.symbols), len(self.target))
        if self.matrix.shape != shape or self.confidence.shape != shape[:1]:
            raise ValueError(
                f"Crosswalk needs matrix {shape} and confidence {shape[:1]}, "
                f"got {self.matrix.shape} and {self.confidence.shape}"
            )
        if len(self.symbols) and (
            (self.matrix < 0).any() or not np.allclose(self.matrix.sum(axis=1), 1)
        ):
            raise ValueError("Crosswalk rows must be >= 0 and sum to 1")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            raise ValueError("Crosswalk.confidence must lie in 0..1")
        freeze(self)

    @classmethod
    def from_shares(
        cls,
        target: Legend,
        rows: Mapping[str, Mapping[Any, float]],
        *,
        confidence: Mapping[str, float] | float = 0.7,
    ) -> Crosswalk:
        """Build from ``{symbol: {class value or name: share}}``.

        Classes that ``target`` does not have are skipped; a symbol with none left
        gets a uniform row and confidence 0 ("says nothing until data says more").
        """
        classes = len(target)
        matrix = np.full((len(rows), classes), 1.0 / classes)
        trust = np.zeros(len(rows))
        known = set(target.values) | set(target.names)
        for i, (symbol, shares) in enumerate(rows.items()):
            kept = {key: share for key, share in shares.items() if key in known and share > 0}
            if kept:
                matrix[i] = 0.0
                for key, share in kept.items():
                    matrix[i, target.index(key)] += share
                matrix[i] /= matrix[i].sum()
                trust[i] = confidence if isinstance(confidence, float) else confidence[symbol]
        return cls(symbols=tuple(rows), target=target, matrix=matrix, confidence=trust)

    def at_its_word(self) -> Codes:
        """Return the likeliest class of each symbol 1..M, -1 where none is known, shape (M,)."""
        return np.where(self.confidence > 0, self.matrix.argmax(axis=1), -1)

    def meant(self, least: float = ENGINE.meant) -> Bools:
        """Return which classes each symbol may stand for, shape (M + 1, K).

        Those whose share reaches ``least``, or the likeliest where none does. Row 0 (silence)
        and symbols of which nothing is known: all.
        """
        out = self.matrix >= np.minimum(least, self.matrix.max(axis=1, keepdims=True))
        out |= (self.confidence == 0)[:, None]
        return np.concatenate([np.ones((1, out.shape[1]), bool), out])
