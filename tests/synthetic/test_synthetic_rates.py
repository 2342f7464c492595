"""Errors occur at the rates that are set, and are shared as far as that is set."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.synthetic import measured_rates, simulate
from glocal.synthetic.fields import draw_wrong, majority, uniform
from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT, near_edge
from glocal.synthetic.world import CLASSES, CONFUSED, FAMILY, WORLDS, World

RATES = (0.15, 0.25, 0.35)
BASE = replace(
    WORLDS["perfect"], size=192, field_points=500, citizen_points=500, anchors=50, structured=0.7
)


def wrong_of(scene: Scene) -> list[np.ndarray]:
    truth = scene.ground.classes(scene.world.map_age)
    return [scene.maps[name] != truth for name in FAMILY]


def close(rate: float, share: float, n: float) -> bool:
    """Return True when ``share`` of n draws can come from ``rate`` (5 standard errors)."""
    return abs(rate - share) < 5 * np.sqrt(max(rate * (1 - rate), 1e-4) / n)


@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.4, 0.8, 0.95, 1.0]))
@settings(max_examples=8)
def test_pairs_of_maps_err_together_as_configured(seed: int, shared: float) -> None:
    scene = simulate(replace(BASE, map_errors=RATES, shared_errors=shared), seed)
    wrong, n = wrong_of(scene), scene.truth.size
    for (one, p), (other, q) in combinations(zip(wrong, RATES, strict=True), 2):
        joint = shared * min(p, q) + (1 - shared) * p * q
        assert close(p, one.mean(), n)
        assert close(q, other.mean(), n)
        assert close(joint, (one & other).mean(), n)


def test_without_sharing_errors_are_independent_given_the_truth() -> None:
    scene = simulate(replace(BASE, map_errors=RATES, shared_errors=0.0), 7)
    truth, wrong = scene.ground.classes(), wrong_of(scene)
    for k in range(len(CLASSES)):
        here = truth == k
        for one, other in combinations(wrong, 2):
            phi = np.corrcoef(one[here], other[here])[0, 1]
            assert abs(phi) < 5 / np.sqrt(here.sum())


def test_shared_errors_agree_on_the_wrong_class() -> None:
    alone, together = (
        simulate(replace(BASE, map_errors=RATES, shared_errors=one, structured=0.0), 7)
        for one in (0.0, 1.0)
    )
    for scene, agree in ((alone, 1 / (len(CLASSES) - 1)), (together, 1.0)):
        both = wrong_of(scene)[0] & wrong_of(scene)[1]
        same = (scene.maps["worldcover"] == scene.maps["esri"])[both]
        assert close(agree, same.mean(), both.sum())


@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.7, 1.0]))
@settings(max_examples=10)
def test_wrong_classes_are_wrong_and_structured(seed: int, structured: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(CLASSES), 20_000).astype(np.uint8)
    wrong = draw_wrong(truth, rng.random(len(truth)), structured)
    assert (wrong != truth).all()
    partner = (wrong == np.array(CONFUSED)[truth]).mean()
    expected = structured + (1 - structured) / (len(CLASSES) - 1)
    assert close(expected, partner, len(truth))


@given(st.integers(0, 10**9), st.floats(0, 8))
@settings(max_examples=10)
def test_even_fields_are_even_whatever_their_width(seed: int, scale: float) -> None:
    field = uniform(np.random.default_rng(seed), 64, scale)
    assert 0 < field.min() < field.max() < 1
    for p in (0.05, 0.3, 0.9):
        assert abs((field < p).mean() - p) < 1e-3


def test_the_majority_removes_what_is_smaller_than_its_square() -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[5, 5], classes[:, 12:] = 3, 4
    assert majority(classes, 3)[5, 5] == 0
    assert (majority(classes, 3)[2:-2, 13:] == 4).all()
    np.testing.assert_array_equal(majority(classes, 1), classes)


def test_points_and_contributors_err_at_their_rates() -> None:
    world = replace(
        BASE, size=384, field_points=9000, field_errors=0.1, field_sd_m=4.0, citizen_points=9000,
        citizen_errors=0.25, citizen_sd_m=12.0, contributors=(0.4, 0.4, 0.1, 0.1),
        contributor_errors=(0.05, 0.2, 0.4, 0.8),
    )  # fmt: skip
    scene = simulate(world, 3)
    rates = measured_rates(scene)
    for name in ("field errors", "citizen errors"):
        assert close(rates[name]["configured"], rates[name]["measured"], 9000)
    for name in ("field position sd (m)", "citizen position sd (m)"):  # points stay in the area
        assert rates[name]["measured"] == pytest.approx(rates[name]["configured"], rel=0.03)
    for number, kind in enumerate(("expert", "novice", "biased", "vandal")):
        n = (scene.osm.kind == number).sum()
        row = rates[f"osm errors, {kind}"]
        assert n > 100
        assert close(row["configured"], row["measured"], 0.7 * n)


def test_objects_are_mapped_at_the_share_of_their_class() -> None:
    scene = simulate(replace(BASE, size=384, completeness=World().completeness), 3)
    mapped = np.isin(np.arange(len(scene.ground.now)), scene.osm.object)
    for k, share in enumerate(World().completeness):
        here = scene.ground.now == k
        assert close(share, mapped[here].mean(), here.sum())


def test_misspecified_errors_depend_on_edges_place_and_objects() -> None:
    errors = {"map_errors": (0.2, 0.2, 0.2)}
    edges = simulate(replace(BASE, **errors, edge_errors=2.0), 1)
    near, wrong = near_edge(edges.ground.classes()), wrong_of(edges)[0]
    assert wrong[near].mean() / wrong[~near].mean() == pytest.approx(3, rel=0.15)
    wrong = wrong_of(simulate(replace(BASE, **errors, drift=0.8), 1))[0]
    assert wrong[:, 96:].mean() / wrong[:, :96].mean() == pytest.approx(1.4 / 0.6, rel=0.15)
    scene = simulate(replace(BASE, **errors, object_errors=1.0), 1)
    wrong, objects = wrong_of(scene)[0], scene.ground.objects.ravel()
    share = np.bincount(objects, weights=wrong.ravel()) / np.bincount(objects)
    assert set(share.tolist()) == {0.0, 1.0}
    scene = simulate(replace(BASE, **errors, silent_when_wrong=0.5), 1)
    silent = scene.maps["esri"] == SILENT
    assert close(0.1, silent.mean(), silent.size)


def test_the_image_is_ambiguous_where_the_maps_share_errors() -> None:
    world = replace(BASE, ambiguous=0.2, ambiguity=1.0, map_errors=(0.2, 0.2, 0.2), shared_errors=1)
    spoilt, clear = (simulate(replace(world, ambiguity=one), 2) for one in (world.ambiguity, 0.0))
    moved = (spoilt.images[0].values != clear.images[0].values).any(axis=0)
    np.testing.assert_array_equal(moved, wrong_of(spoilt)[0])
