"""The door of the model: what is refused, what is warned about, what is put in order."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msgfm import Batch, Encoder, EncoderConfig, batch_of
from msgfm.errors import InputError, InputSizeError, InputUnitError, SensorError
from msgfm.sensors import bands_of, sensor

S2 = [band.name for band in bands_of("s2")]
L2A = [name for name in S2 if name != "B10"]


def usual(short, side=(8, 8), count=1, seed=0):
    """Draw values as the table calls typical."""
    bands, rng = bands_of(short), np.random.default_rng(seed)
    mean = np.array([b.mean for b in bands])[:, None, None]
    std = np.array([b.std for b in bands])[:, None, None]
    values = mean + std * rng.uniform(-1, 1, (count, len(bands), *side))
    low, high = bands[0].valid_min, bands[0].valid_max
    return values.clip(low, high).astype(np.float32)


def assert_equal(one, two):
    for name in one.sensors:
        assert torch.equal(one.values[name], two.values[name])
        assert torch.equal(one.valid[name], two.valid[name])


@pytest.mark.parametrize("short", ["rgb", "s2", "sar", "dsm", "l8"])
def test_usual_values_come_in_without_a_warning(short):
    image = usual(short, count=2)
    batch = batch_of({short: image})
    assert batch.valid[short].all()
    assert np.array_equal(batch.values[short].numpy(), image)
    assert len(batch) == 2
    assert batch.shape_yx == (8, 8)
    assert torch.isnan(batch.day[short]).all()


def test_the_bands_are_those_of_level_1c_in_its_order():
    assert sensor("s2").levels == (tuple(S2), tuple(L2A))


def test_level_2a_equals_level_1c_with_cirrus_invalid():
    image = usual("s2")
    valid = np.array([name != "B10" for name in S2])[None, :, None, None]
    twelve = batch_of({"s2": np.delete(image, S2.index("B10"), 1)})
    assert_equal(twelve, batch_of({"s2": image}, valid={"s2": valid}))
    assert not twelve.valid["s2"][:, S2.index("B10")].any()


@settings(max_examples=30)
@given(names=st.lists(st.sampled_from(S2), min_size=1, max_size=13, unique=True))
def test_named_bands_find_their_place_whatever_their_order(names):
    image = usual("s2")
    at = [S2.index(name) for name in names]
    batch = batch_of({"s2": image[:, at]}, bands={"s2": names})
    assert np.array_equal(batch.values["s2"][:, at].numpy(), image[:, at])
    present = batch.valid["s2"].flatten(2).any(2)[0]
    assert sorted(present.nonzero().flatten().tolist()) == sorted(at)


def test_common_names_are_names():
    image = usual("s2")[:, :3]
    one = batch_of({"s2": image}, bands={"s2": ["blue", "green", "red"]})
    assert_equal(one, batch_of({"s2": image}, bands={"s2": ["B02", "B03", "B04"]}))


@settings(max_examples=30)
@given(seed=st.integers(0, 99), share=st.floats(0, 0.9), bad=st.sampled_from([np.nan, np.inf]))
def test_what_is_not_finite_equals_what_is_marked_invalid(seed, share, bad):
    image = usual("s2", seed=seed)
    hole = np.random.default_rng(seed).random(image.shape) < share
    hole[0, 0, 0, 0] = False
    marked = batch_of({"s2": image}, valid={"s2": ~hole})
    assert_equal(marked, batch_of({"s2": np.where(hole, np.float32(bad), image)}))
    assert (marked.values["s2"][torch.from_numpy(hole)] == 0).all()


def test_a_few_cells_out_of_range_are_invalid_and_many_are_refused():
    image = usual("dsm", side=(40, 40))
    image[0, 0, 0, 0] = -32768
    batch = batch_of({"dsm": image})
    assert batch.valid["dsm"].sum() == 40 * 40 - 1
    image[0, 0, 0, :5] = -32768
    with pytest.raises(InputUnitError, match="mark no-data cells as invalid"):
        batch_of({"dsm": image})


@pytest.mark.parametrize(
    ("short", "wrong", "advice"),
    [
        ("rgb", lambda x: x * 255, "multiply by 0.00392"),
        ("rgb", lambda x: x - 0.5, "Convert them"),
        ("rgb", lambda x: x * 1.2 + 0.5, "clip overshoots"),
        ("s2", lambda x: x * 10_000, "multiply by 0.0001"),
        ("s2", lambda x: x * 100, "multiply by 0.0001"),
        ("l8", lambda x: (x + 0.2) / 2.75e-5, r"multiply by 2.75e-05, add -0.2"),
        ("sar", lambda x: 10 ** (x / 10), "10 \\* log10"),
        ("sar", lambda x: x * 100, "allows -60 to 30"),
        ("dsm", lambda x: x + 10_000, "allows -500 to 9000"),
    ],
)
def test_other_units_are_refused_with_advice(short, wrong, advice):
    with pytest.raises(InputUnitError, match=advice) as caught:
        batch_of({short: wrong(usual(short))})
    assert f"sensor {short}" in str(caught.value)


def test_a_bright_radar_scene_is_not_taken_for_linear_power():
    image = usual("sar")
    image[:, 0] = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch_of({"sar": image}).valid["sar"].all()


def test_swapped_polarizations_raise_a_warning_that_says_so():
    with pytest.warns(UserWarning, match=r"VV .* is below VH .*swapped"):
        batch_of({"sar": usual("sar")[:, ::-1]})
    assert batch_of({"sar": usual("sar")[:, ::-1]}, bands={"sar": ["VH", "VV"]})


def test_bands_in_numeric_order_raise_a_warning_that_names_the_cause():
    numeric = [name for name in S2 if name != "B8A"] + ["B8A"]
    image = usual("s2")[:, [S2.index(name) for name in numeric]]
    with pytest.warns(UserWarning, match=r"mean of B10 .*suspect swapped bands"):
        batch_of({"s2": image})


def test_a_missing_offset_raises_a_warning():
    with pytest.warns(UserWarning, match=r"B10 .*a missing offset"):
        batch_of({"s2": usual("s2") + 0.1})


def test_warnings_point_at_the_line_that_called():
    odd = usual("s2") + 0.1
    encoder = Encoder(EncoderConfig(width=16, depths=(1,), heads=(2,), window=4))
    for door in (batch_of, encoder.embed, encoder.features):
        with pytest.warns(UserWarning, match="B10") as told:
            door({"s2": odd})
        assert [one.filename for one in told] == [__file__]


def test_relief_may_lie_at_any_height():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch_of({"dsm": usual("dsm") + 4000})


def test_a_place_without_any_valid_pixel_is_refused_by_its_number():
    image = usual("rgb", count=3)
    image[1] = np.nan
    with pytest.raises(InputError, match=r"places \[1\]"):
        batch_of({"rgb": image})
    assert len(batch_of({"rgb": image, "dsm": usual("dsm", count=3)})) == 3


def test_one_pixel_is_an_image():
    assert batch_of({"s2": usual("s2", side=(1, 1))}).shape_yx == (1, 1)


@pytest.mark.parametrize(
    ("arrays", "about", "error", "message"),
    [
        ({}, {}, InputError, "at least one sensor"),
        ({"aster": np.zeros((1, 3, 4, 4))}, {}, SensorError, "known: .*rgb"),
        ({"rgb": np.full((3, 4, 4), 0.4)}, {}, InputError, r"\(B, C, H, W\)"),
        ({"rgb": np.full((0, 3, 4, 4), 0.4)}, {}, InputError, "without empty axes"),
        ({"rgb": np.full((1, 3, 0, 4), 0.4)}, {}, InputError, "without empty axes"),
        ({"rgb": np.full((1, 4, 4, 3), 0.4)}, {}, InputError, "has 3 bands, got 4"),
        ({"s2": np.full((1, 10, 4, 4), 0.1)}, {}, InputError, "13 or 12 bands.*name them"),
        (
            {"s2": np.full((1, 2, 4, 4), 0.1)},
            {"bands": {"s2": ["B04"]}},
            InputError,
            "2 bands but 1 band names",
        ),
        (
            {"s2": np.full((1, 2, 4, 4), 0.1)},
            {"bands": {"s2": ["B04", "red"]}},
            InputError,
            "named twice",
        ),
        (
            {"s2": np.full((1, 1, 4, 4), 0.1)},
            {"bands": {"s2": ["B13"]}},
            SensorError,
            "no band 'B13'.*B8A",
        ),
        (
            {"rgb": np.full((1, 3, 4, 4), 0.4), "dsm": np.zeros((1, 1, 8, 8))},
            {},
            InputSizeError,
            "Resample",
        ),
        (
            {"rgb": np.full((2, 3, 4, 4), 0.4), "dsm": np.zeros((1, 1, 4, 4))},
            {},
            InputSizeError,
            "same B, H, W",
        ),
        (
            {"rgb": np.full((1, 3, 4, 4), 0.4)},
            {"valid": {"RGB": np.ones((1, 3, 4, 4), bool)}},
            InputError,
            r"\['RGB'\] is described, but has no array",
        ),
        (
            {"rgb": np.full((3, 3, 4, 4), 0.4)},
            {"valid": {"rgb": np.ones((3, 4, 4), bool)}},
            InputError,
            "valid must be",
        ),
        (
            {"rgb": np.full((1, 3, 4, 4), 0.4)},
            {"valid": {"rgb": np.ones((1, 3, 2, 2), bool)}},
            InputError,
            "valid must be",
        ),
        *[
            ({"rgb": np.full((2, 3, 4, 4), 0.4)}, {"gsd_m": {"rgb": wrong}}, InputError, text)
            for wrong, text in [
                (0, "gsd_m must be > 0"),
                (np.nan, "gsd_m must be > 0"),
                ([1, -1], "gsd_m must be > 0"),
                ([1, 1, 1], "one number or 2"),
            ]
        ],
        *[
            ({"rgb": np.full((2, 3, 4, 4), 0.4)}, {"day": {"rgb": wrong}}, InputError, "day")
            for wrong in (0, 367, 20240501, np.inf)
        ],
    ],
)
def test_bad_input_is_refused_with_the_rule(arrays, about, error, message):
    with pytest.raises(error, match=message):
        batch_of(arrays, **about)


def test_size_and_day_are_one_number_or_one_per_place():
    image = usual("rgb", count=2)
    batch = batch_of({"rgb": image}, gsd_m={"rgb": [0.2, 10]}, day={"rgb": 366})
    assert batch.gsd_m["rgb"].tolist() == [pytest.approx(0.2), 10]
    assert batch.day["rgb"].tolist() == [366, 366]
    assert batch_of({"s2": usual("s2")}).gsd_m["s2"].tolist() == [10]


def test_tensors_are_arrays():
    image = usual("rgb")
    assert_equal(batch_of({"rgb": image}), batch_of({"rgb": torch.from_numpy(image)}))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("valid", torch.ones(2, 3, 8, 1, dtype=torch.bool)),
        ("valid", torch.ones(2, 3, 8, 8)),
        ("gsd_m", torch.ones(1)),
        ("day", torch.ones(())),
    ],
)
def test_a_batch_refuses_parts_that_would_be_broadcast(part, wrong):
    batch = batch_of({"rgb": usual("rgb", count=2)})
    for broken in ({"rgb": wrong}, {}):
        with pytest.raises(InputError, match=f"sensor rgb: {part} must"):
            replace(batch, **{part: broken})


def test_a_window_of_a_batch_is_that_of_its_arrays():
    image = usual("rgb", count=2)
    batch = batch_of({"rgb": image}, day={"rgb": [1, 2]})
    rows, columns = slice(2, 7), slice(0, 3)
    assert_equal(
        batch.window(rows, columns),
        batch_of({"rgb": image[..., rows, columns]}, day={"rgb": [1, 2]}),
    )


def test_a_batch_gives_some_sensors_and_some_places():
    whole = batch_of(
        {"rgb": usual("rgb", count=3), "dsm": usual("dsm", count=3)}, day={"rgb": [1, 2, 3]}
    )
    chart = {"cover": torch.arange(3)[:, None, None].expand(3, 8, 8)}
    whole = Batch(
        values=whole.values, valid=whole.valid, gsd_m=whole.gsd_m, day=whole.day, maps=chart
    )
    some = whole.only("rgb").rows(torch.tensor([2, 0]))
    assert some.sensors == ("rgb",)
    assert some.day["rgb"].tolist() == [3, 1]
    assert some.maps["cover"][:, 0, 0].tolist() == [2, 0]
    assert torch.equal(some.values["rgb"], whole.values["rgb"][[2, 0]])
    assert whole.to("cpu").sensors == ("rgb", "dsm")
    with pytest.raises(SensorError, match=re.escape("['sar']; it has: rgb, dsm")):
        whole.only("sar")


def test_classes_of_a_map_come_in_as_whole_numbers_on_the_grid_of_the_images():
    image = usual("rgb", count=2)
    classes = np.arange(2 * 8 * 8).reshape(2, 8, 8) % 5 - 1
    batch = batch_of({"rgb": image}, maps={"cover": classes.astype(np.int16)})
    assert batch.maps["cover"].dtype == torch.int64
    assert batch.maps["cover"].tolist() == classes.tolist()
    for wrong, rule in (
        (classes.astype(float), "whole numbers"),
        (classes[:, :4], "shape"),
        (classes[:1], "shape"),
        (classes - 1, "-1 is unknown"),
    ):
        with pytest.raises(InputError, match=rule):
            batch_of({"rgb": image}, maps={"cover": wrong})


def test_what_the_door_lets_in_gives_finite_features():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=8, depths=(1, 2), heads=(1, 2), window=4, experts=2))
    image = usual("s2", side=(9, 5))
    image[0, :, 3:, :] = np.nan
    image[0, 2] = np.nan
    assert torch.isfinite(encoder.embed({"s2": image, "dsm": usual("dsm", side=(9, 5))})).all()
