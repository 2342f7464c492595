"""How good is a map, and how large are its classes: estimates from a reference sample.

One estimator serves every case: totals per stratum are expanded by the stratum's
share of the area, ratios of two totals are linearised for their variance. With map
classes as strata it gives exactly the numbers of Olofsson et al. 2014
(doi:10.1016/j.rse.2014.02.015); with other strata those of Stehman 2014
(doi:10.1080/01431161.2014.930207). Reference labels may be soft (shares of classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.legend import Legend
from glocal.core.result import freeze
from glocal.core.typing import Codes, Table

Z95 = 1.96
"""Two-sided 95 % quantile of the normal distribution, as the published example rounds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One estimate with the half-width of its 95 % confidence interval."""

    value: float | None
    """``None`` where the sample can't tell; ``reason`` says why."""

    half_width: float | None
    """``None`` where the sample can't tell; ``reason`` says why."""

    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping without NaN."""
        content: dict[str, Any] = {"value": self.value, "ci95": self.half_width}
        return {**content, "reason": self.reason} if self.reason else content

    def of_area(self, total: float) -> Measure:
        """Return a share of the whole as an area; nothing was found of a share of 0."""
        if not self.value:
            return Measure(value=0.0, half_width=None, reason="no reference points of this class")
        half = None if self.half_width is None else self.half_width * total
        return Measure(value=self.value * total, half_width=half, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccuracyReport:
    """Accuracy and error-adjusted areas, each with a 95 % half-width."""

    overall: Measure
    users: tuple[Measure, ...]
    """Per class: of what the map calls so, which share is so."""

    producers: tuple[Measure, ...]
    """Per class: of what is so, which share the map calls so."""

    areas: tuple[Measure, ...]
    """Per class: error-adjusted area, in the unit of ``mapped_area``."""

    counts: Table
    """Shape (K, K), rows = map, columns = reference; fractional with soft labels."""

    proportions: Table
    """Shape (K, K), the same as estimated shares of the area; sums to 1."""

    mapped_area: Table
    """Shape (K,), area of each class on the map."""

    sample_size: int
    """Units with an answer."""

    non_response: int = 0
    """Units whose class nobody could tell (cloud); left out of every estimate."""

    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        freeze(self)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the estimated area proportions; None where one class is all.

        Written because ISO 19157 asks for it; it adds nothing to the overall accuracy
        (Foody 2020, doi:10.1016/j.rse.2019.111630).
        """
        agreed = float(np.trace(self.proportions))
        chance = float(self.proportions.sum(axis=1) @ self.proportions.sum(axis=0))
        return None if chance >= 1 - 1e-12 else (agreed - chance) / (1 - chance)

    def iso19157(self) -> list[dict[str, Any]]:
        """Return the thematic measures 60 to 64 of ISO 19157:2013, annex D.

        Matrices have the reference in rows, as the standard defines them; 60, 62 and 63
        count reference points, 61 and 64 are estimates for the whole area.
        """
        matrix = self.counts.T
        total = matrix.sum(axis=1, keepdims=True)
        relative = np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)
        overall = self.overall.value
        rate = None if overall is None else 1 - overall
        kappa = None if self.kappa is None else round(self.kappa, 6)
        wrong = round(float(matrix.sum() - np.trace(matrix)), 6)
        return [
            _iso(60, "number of incorrectly classified features", wrong),
            _iso(61, "misclassification rate", None if rate is None else round(rate, 6)),
            _iso(62, "misclassification matrix", np.round(matrix, 6).tolist()),
            _iso(63, "relative misclassification matrix", np.round(relative, 6).tolist()),
            _iso(64, "kappa coefficient", kappa),
        ]

    def as_dict(self, legend: Legend, *, unit: str = "ha") -> dict[str, Any]:
        """Return the report for ``accuracy.json``; ``unit`` is that of the areas."""
        rows = zip(legend.classes, self.users, self.producers, self.areas, strict=True)
        return {
            "sample_size": self.sample_size,
            "non_response": self.non_response,
            "classes": [{"value": c.value, "name": c.name} for c in legend.classes],
            "mapped_area": {"unit": unit, "values": self.mapped_area.tolist()},
            "confusion_matrix": {
                "rows": "map",
                "columns": "reference",
                "counts": np.round(self.counts, 6).tolist(),
                "area_proportions": np.round(self.proportions, 8).tolist(),
            },
            "iso19157": self.iso19157(),
            "estimates": {
                "confidence_level": 0.95,
                "overall_accuracy": self.overall.as_dict(),
                "per_class": [
                    {
                        "name": one.name,
                        "users_accuracy": user.as_dict(),
                        "producers_accuracy": producer.as_dict(),
                        "area": area.as_dict(),
                    }
                    for one, user, producer, area in rows
                ],
            },
            "method": "stratified estimators, Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015",
            "notes": list(self.notes),
        }


def _iso(number: int, name: str, value: Any) -> dict[str, Any]:
    return {"measure": number, "name": name, "value": value}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sample:
    """Sampled units in rows; equal units may be counted in one row."""

    mapped: Codes
    """Shape (n,), class index on the map."""

    shares: Table
    """Shape (n, K), reference label."""

    repeats: Table
    """Shape (n,), number of units that a row stands for."""

    weight: Table
    """Shape (n,), inverse inclusion probability within the stratum."""

    stratum: Codes
    area: Table
    """Shape (strata,), share of the area; sums to 1."""

    def mean(self, values: Table) -> float:
        """Return the estimated mean over the area of ``values`` (n,)."""
        # The sum over strata of W (share of the area) times the stratum's weighted mean.
        mass = self.repeats * self.weight
        strata = len(self.area)
        top = np.bincount(self.stratum, mass * values, strata)
        return float(self.area @ (top / np.bincount(self.stratum, mass, strata)))

    def variance(self, values: Table) -> float:
        """Return the variance of :meth:`mean` under sampling with replacement in strata."""
        mass = self.repeats * self.weight
        strata = len(self.area)
        total = np.bincount(self.stratum, mass, strata)
        units = np.bincount(self.stratum, self.repeats, strata)
        centre = np.bincount(self.stratum, mass * values, strata) / total
        spread = self.repeats * self.weight**2 * (values - centre[self.stratum]) ** 2
        within = np.bincount(self.stratum, spread, strata) / total**2
        # The sum over strata of W^2 s^2 / n; n / (n - 1) makes s^2 unbiased.
        return float(self.area**2 @ (within * units / (units - 1)))

    def ratio(self, part: Table, whole: Table, *, missing: str) -> Measure:
        """Return mean(part) / mean(whole), or no value where ``whole`` never occurs."""
        bottom = self.mean(whole)
        if bottom <= 0:
            return Measure(value=None, half_width=None, reason=missing)
        value = self.mean(part) / bottom
        units = float(self.repeats[whole > 0].sum())
        # R = Y / X, linearised: V(R) = V(y - R x) / X^2 (Stehman 2014).
        variance = self.variance(part - value * whole) / bottom**2
        if variance > 1e-15:
            return Measure(value=value, half_width=Z95 * variance**0.5)
        reason = (
            f"all {units:.0f} points behind it agree, so that the normal interval is empty; "
            f"by the rule of three the truth may differ by up to {min(1.0, 3 / units):.2f}"
        )
        return Measure(value=value, half_width=None, reason=reason)


def _strata(
    units: NDArray[Any], area: Table, names: Sequence[str]
) -> tuple[Codes, tuple[str, ...]]:
    """Return the stratum of each map class, and a note where some had to share one.

    A class with fewer than two units has no variance of its own: all such classes
    form one stratum, joined by the largest other class while it is still too thin.
    """
    order = np.argsort(-area, kind="stable")
    thin = [k for k in range(len(area)) if units[k] < 2 and (units[k] or area[k])]
    for k in order.tolist():
        if not thin or units[thin].sum() >= 2:
            break
        if k not in thin and units[k]:
            thin.append(k)
    stratum = np.arange(len(area))
    if not thin:
        return stratum, ()
    stratum[thin] = min(thin)
    listed = ", ".join(names[k] if names else str(k) for k in sorted(thin))
    note = (
        f"map classes with fewer than 2 reference points share one stratum ({listed}): "
        "unbiased for a simple random sample, not for one stratified by map class"
    )
    return stratum, (note,)


def sample_accuracy(
    mapped: NDArray[np.integer[Any]],
    shares: Table,
    mapped_area: Sequence[float] | Table,
    *,
    weight: Table | None = None,
    repeats: Table | None = None,
    names: Sequence[str] = (),
) -> AccuracyReport:
    """Estimate accuracy and areas from reference units, (post-)stratified by map class.

    Parameters
    ----------
    mapped
        Shape (n,), class index 0..K-1 on the map at each unit.
    shares
        Shape (n, K), reference label: one-hot, or shares that sum to 1. A row of zeros
        is non-response: counted, then left out.
    mapped_area
        Shape (K,), area of each class on the whole map, any unit.
    weight
        Shape (n,), inverse inclusion probability; equal when not given.
    repeats
        Shape (n,), units that a row stands for; one when not given.
    names
        Class names for the notes.

    The spread of soft labels within a unit is not in the intervals: they hold for
    drawing other units, not for asking another observer.

    Raises
    ------
    ValueError
        Shapes that do not fit, or fewer than two units with an answer.
    """
    shares = np.asarray(shares, float)
    on_map: Codes = np.asarray(mapped).astype(np.int64)
    area = np.asarray(mapped_area, float)
    n, classes = shares.shape
    weight = np.ones(n) if weight is None else np.asarray(weight, float)
    repeats = np.ones(n) if repeats is None else np.asarray(repeats, float)
    _check(on_map, shares, area, weight)
    answered = (shares.sum(axis=1) > 0) & (repeats > 0)
    silent = float(repeats[shares.sum(axis=1) <= 0].sum())
    on_map, shares = on_map[answered], shares[answered]
    weight, repeats = weight[answered], repeats[answered]
    if repeats.sum() < 2:
        raise ValueError(
            f"accuracy needs at least 2 reference points with an answer, got {repeats.sum():.0f}; "
            "collect more, or write why there is no accuracy"
        )
    units = np.bincount(on_map, repeats, classes)
    stratum, notes = _strata(units, area, names)
    used, compact = np.unique(stratum[on_map], return_inverse=True)
    share = np.bincount(stratum, area, classes)[used]
    sample = _Sample(
        mapped=on_map,
        shares=shares,
        repeats=repeats,
        weight=weight,
        stratum=compact,
        area=share / share.sum(),
    )
    return _report(sample, area, int(silent), notes)


def _check(mapped: NDArray[Any], shares: Table, area: Table, weight: Table) -> None:
    n, classes = shares.shape
    if mapped.shape != (n,) or weight.shape != (n,) or area.shape != (classes,):
        raise ValueError(
            f"accuracy needs mapped (n,), shares (n, K), area (K,); got {mapped.shape}, "
            f"{shares.shape}, {area.shape}"
        )
    if n and not ((mapped >= 0) & (mapped < classes)).all():
        raise ValueError(f"accuracy needs map classes 0..{classes - 1}, got {np.unique(mapped)}")
    total = shares.sum(axis=1)
    if (shares < 0).any() or not np.all(np.isclose(total, 1) | (total == 0)):
        raise ValueError("reference shares must be >= 0 and sum to 1, or be all 0")
    if (area < 0).any() or not area.sum() > 0 or not (weight > 0).all():
        raise ValueError("accuracy needs mapped_area >= 0 with a positive sum, and weight > 0")


def _report(sample: _Sample, area: Table, silent: int, notes: tuple[str, ...]) -> AccuracyReport:
    classes = len(area)
    one_hot = np.eye(classes)[sample.mapped]
    right = one_hot * sample.shares
    everything = np.ones(len(sample.mapped))
    fractions = [sample.ratio(sample.shares[:, k], everything, missing="") for k in range(classes)]
    cells = one_hot[:, :, None] * sample.shares[:, None, :]
    return AccuracyReport(
        overall=sample.ratio(right.sum(axis=1), everything, missing=""),
        users=tuple(
            sample.ratio(
                right[:, k],
                one_hot[:, k],
                missing="no reference points in this map class"
                if area[k] or one_hot[:, k].any()
                else "the class is not on the map",
            )
            for k in range(classes)
        ),
        producers=tuple(
            sample.ratio(
                right[:, k], sample.shares[:, k], missing="no reference points of this class"
            )
            for k in range(classes)
        ),
        areas=tuple(one.of_area(float(area.sum())) for one in fractions),
        counts=(cells * sample.repeats[:, None, None]).sum(axis=0),
        proportions=np.array(
            [[sample.mean(cells[:, i, j]) for j in range(classes)] for i in range(classes)]
        ),
        mapped_area=area,
        sample_size=int(sample.repeats.sum()),
        non_response=silent,
        notes=notes,
    )


def olofsson(
    counts: Sequence[Sequence[float]] | NDArray[Any],
    mapped_area: Sequence[float] | Table,
    *,
    names: Sequence[str] = (),
) -> AccuracyReport:
    """Estimate accuracy and areas from a confusion matrix, strata = map classes.

    Parameters
    ----------
    counts
        Shape (K, K): reference points; rows = map, columns = reference.
    mapped_area
        Shape (K,), area of each class on the map, any unit.

    The worked example of Olofsson et al. 2014:

    >>> report = olofsson(
    ...     [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]],
    ...     [200_000, 150_000, 3_200_000, 6_450_000],
    ... )
    >>> round(report.overall.value, 3), round(report.overall.half_width, 3)
    (0.947, 0.018)
    """
    table = np.asarray(counts, float)
    classes = len(table)
    if table.shape != (classes, classes) or (table < 0).any() or not np.isfinite(table).all():
        raise ValueError(f"counts must be a square matrix of numbers >= 0, got {table.shape}")
    return sample_accuracy(
        np.repeat(np.arange(classes), classes),
        np.tile(np.eye(classes), (classes, 1)),
        mapped_area,
        repeats=table.ravel(),
        names=names,
    )
