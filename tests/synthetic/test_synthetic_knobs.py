"""A knob that is off leaves its source equal to the truth; a knob turns its own source only."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.errors import ConfigError
from glocal.synthetic import WORLDS, World, simulate, world_named
from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT, near_edge
from glocal.synthetic.source_osm import painted
from glocal.synthetic.world import CLASSES

SIZE = 64
FEW = {"size": SIZE, "field_points": 60, "citizen_points": 60, "anchors": 60}
PERFECT = replace(WORLDS["perfect"], **FEW)


def parts(scene: Scene) -> dict[str, bytes]:
    """Return what each source says, as bytes."""
    said = {name: one.tobytes() for name, one in scene.maps.items() if name in scene.maps}
    said["modis"] = b"" if scene.coarse is None else scene.coarse.tobytes()
    said["osm"] = painted(scene.osm, scene.geobox).tobytes() + scene.osm.tag.tobytes()
    for name, one in scene.points.items():
        said[name] = one.said.tobytes() + one.xy.tobytes()
    said["image"] = b"".join(one.values.tobytes() for one in scene.images)
    said["radar"] = b"" if scene.radar is None else scene.radar.tobytes()
    said["heights"] = b"" if scene.heights is None else scene.heights.tobytes()
    said["truth"] = scene.truth.tobytes()
    return said


@given(st.integers(0, 2**63))
@settings(max_examples=5)
def test_perfect_sources_say_the_truth(seed: int) -> None:
    scene = simulate(PERFECT, seed)
    truth = scene.ground.classes()
    for said in scene.maps.values():
        np.testing.assert_array_equal(said, truth)
    np.testing.assert_array_equal(painted(scene.osm, scene.geobox), truth)
    for points in scene.points.values():
        np.testing.assert_array_equal(points.said, truth.ravel()[points.cell])
        assert not points.step.any()
    image = scene.images[0]
    assert not image.cloud.any()
    for k in range(len(CLASSES)):  # one spectrum per class: nothing spoils it
        here = image.values[:, truth == k]
        assert (np.ptp(here, axis=1) < 1e-6).all()


MAP_KNOBS = {
    "map_errors": (0.3, 0.3, 0.3), "silent": 0.1, "mmu_cells": 5, "edge_errors": 2.0,
    "drift": 0.5, "object_errors": 0.5,
}  # fmt: skip
MAPS = {"worldcover", "esri", "dynamicworld"}
OTHERS = {
    "coarse_errors": (0.5, {"modis"}),
    "coarse_m": (0, {"modis"}),
    "contributor_errors": ((0.3,) * 4, {"osm"}),
    "completeness": ((0.5,) * 7, {"osm"}),
    "trace_sd_m": (30.0, {"osm"}),
    "object_sd_m": (30.0, {"osm"}),
    "osm_shift_m": ((40.0, 0.0), {"osm"}),
    "field_errors": (0.4, {"field"}),
    "field_sd_m": (9.0, {"field"}),
    "citizen_errors": (0.4, {"citizen"}),
    "citizen_bias": (0.9, {"citizen"}),
    "citizen_sd_m": (9.0, {"citizen"}),
    "anchor_design": ("region", {"anchors"}),
    "ambiguous": (0.3, set()),
    "clouds": (0.2, {"image"}),
    "texture": (0.2, {"image"}),
    "parcel_noise": (0.2, {"image"}),
    "illumination": (0.2, {"image"}),
    "covariate_shift": (0.2, {"image"}),
    "psf_cells": (0.8, {"image"}),
    "image_shift_m": ((15.0, 5.0), {"image"}),
    "image_turn_m": (20.0, {"image"}),
    "sar": (False, {"radar"}),
    "dsm": (False, {"heights"}),
}  # fmt: skip


@pytest.mark.parametrize("knob", [*MAP_KNOBS, *OTHERS])
def test_a_knob_turns_its_own_source_only(knob: str) -> None:
    base = PERFECT
    value, changes = OTHERS.get(knob, (MAP_KNOBS.get(knob), MAPS))
    if knob in ("edge_errors", "drift", "object_errors"):
        base = replace(base, map_errors=(0.3, 0.3, 0.3))
    before, after = (parts(simulate(one, 5)) for one in (base, replace(base, **{knob: value})))
    assert {name for name in before if before[name] != after[name]} == changes


def test_a_moved_image_shows_the_ground_where_it_was_moved_to() -> None:
    still, moved = (
        simulate(replace(PERFECT, image_shift_m=one), 5).images[0].values
        for one in ((0.0, 0.0), (20.0, 10.0))  # two cells to the east, one to the north
    )
    np.testing.assert_allclose(moved[:, :-1, 2:], still[:, 1:, :-2], atol=1e-6)


def test_change_and_age_make_sources_outdated_and_nothing_else() -> None:
    world = replace(PERFECT, size=128, change=3.0, map_age=5.0, osm_age=8.0)
    scene = simulate(world, 2)
    ground, osm = scene.ground, scene.osm
    np.testing.assert_array_equal(scene.maps["esri"], ground.classes(5.0))
    old = scene.maps["esri"] != ground.classes()
    assert 0 < old.mean() < 0.4
    assert (ground.changed[ground.objects[old]] < 5).all()
    stale = osm.said != ground.now[osm.object]
    assert stale.any()
    assert (ground.changed[osm.object[stale]] < osm.age[stale]).all()


def test_imports_give_one_tag_to_two_classes_and_are_complete_in_their_disc() -> None:
    scene = simulate(replace(PERFECT, size=128, completeness=(0.0,) * 7, imports=3), 1)
    osm = scene.osm
    assert set(osm.imported.tolist()) <= {0, 1, 2}
    assert len(set(osm.imported.tolist())) > 1
    for number in set(osm.imported.tolist()):
        of_it = osm.imported == number
        assert len(set(osm.said[of_it].tolist())) == 1
        assert len(set(osm.person[of_it].tolist())) == 1


def test_tagging_by_use_concerns_green_beside_settlements() -> None:
    scene = simulate(replace(PERFECT, size=128, land_use=1.0), 1)
    osm = scene.osm
    assert osm.by_use.sum() > 5
    assert set(osm.tag[osm.by_use].tolist()) == {"landuse=residential"}
    assert set(scene.ground.now[osm.object[osm.by_use]].tolist()) <= {0, 2}


def test_a_withholding_community_gives_neither_objects_nor_points() -> None:
    scene = simulate(replace(World(), **FEW, withheld_region=3), 1)
    region = scene.ground.region
    assert not (region.ravel()[scene.points["field"].cell] == 3).any()
    assert not (region.ravel()[scene.points["citizen"].cell] == 3).any()
    assert not (region[tuple(scene.ground.centre[scene.osm.object].T)] == 3).any()


def test_anchors_follow_their_design() -> None:
    world = replace(World(), **FEW)
    scene = simulate(replace(world, anchor_design="region"), 1)
    assert (scene.ground.region.ravel()[scene.points["anchors"].cell] == 0).all()
    scene = simulate(replace(world, anchor_design="interior"), 1)
    assert not near_edge(scene.ground.classes()).ravel()[scene.points["anchors"].cell].any()
    assert "anchors" not in simulate(replace(world, anchors=0), 1).points


def test_reviewers_accept_wrong_suggestions_at_the_rate_that_is_set() -> None:
    world = replace(World(), **{**FEW, "size": 128, "anchors": 4000}, acceptance=0.5)
    shown, kept = (
        simulate(replace(world, acceptance=one), 1).points["anchors"] for one in (1, 0.5)
    )
    wrong = shown.said != shown.truth
    assert wrong.sum() > 100
    accepted = (kept.said != kept.truth)[wrong].mean()
    assert abs(accepted - 0.5) < 4 * np.sqrt(0.25 / wrong.sum())
    assert not (kept.said != kept.truth)[~wrong].any()


def test_maps_learned_from_others_inherit_their_errors() -> None:
    world = replace(World(), **{**FEW, "size": 192}, osm_map=True, echo_map=True)
    scene = simulate(world, 4)
    truth, osm = scene.ground.classes(), painted(scene.osm, scene.geobox)
    for name, teacher in (("learned", osm), ("echo", scene.maps["esri"])):
        wrong = scene.maps[name] != truth
        misled = (teacher != SILENT) & (teacher != truth)
        right = (teacher != SILENT) & (teacher == truth)
        assert wrong[misled].mean() > wrong[right].mean()


@pytest.mark.parametrize("name", WORLDS)
def test_named_worlds_carry_their_name_and_differ_from_standard(name: str) -> None:
    world = world_named(name)
    assert world.name == name
    different = [
        one.name for one in fields(World) if getattr(world, one.name) != getattr(World(), one.name)
    ]
    assert (len(different) == 0) == (name == "standard")
    assert world_named(name, 96).size == 96


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 10}, "48"),
        ({"shared_errors": 1.2}, "shared_errors must lie in 0..1"),
        ({"map_errors": ()}, "1..3"),
        ({"completeness": (0.5,)}, "7 numbers"),
        ({"anchors": 10**6}, "too many"),
        ({"texture": -1.0}, "texture must not be negative"),
        ({"image_ages": ()}, "at least one image"),
    ],
)
def test_a_wrong_knob_is_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(World(), **change)


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(ConfigError, match="standard, perfect"):
        world_named("flat")
