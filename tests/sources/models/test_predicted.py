"""A model never judges what taught it."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.core.chip import Chip
from glocal.core.grid import block_folds
from glocal.core.interval import Interval
from glocal.core.sensor import sensor
from glocal.errors import BadSourceError, MissingExtraError, UnknownSensorError
from glocal.sources.models import features_msgfm as msgfm
from glocal.sources.models.predict import (
    Features,
    Labels,
    features,
    predict,
    weights_behind,
)
from glocal.sources.stated import observe_stated
from glocal.testing import grid, legend_of, provenance_of
from msgfm import Encoder, EncoderConfig, batch_of

H, W, K, BLOCK, FOLDS = 24, 24, 3, 6, 4
CELLS = H * W
LEGEND = legend_of(K)


def scene(seed, *, objects=6):
    """Return features that tell the class, labels, folds and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, (H // 3, W // 3)).repeat(3, 0).repeat(3, 1).ravel()
    values = (np.eye(K)[truth] + rng.normal(0, 0.4, (CELLS, K))).astype(np.float32)
    valid = rng.random(CELLS) > 0.05
    owner = np.zeros((H, W), np.int64)
    for number in range(1, objects + 1):
        row, column = rng.integers(0, H - 3), rng.integers(0, W - 3)
        owner[row : row + 9, column : column + 4] = number
    cell = np.sort(rng.choice(CELLS, 200, replace=False))
    owner = owner.ravel()
    labels = Labels(
        cell=cell,
        shares=np.eye(K)[truth[cell]],
        weight=np.ones(len(cell)),
        bars=owner[cell],
        owner=owner,
    )
    seen = Features(values=values, valid=valid, names=("a", "b", "c"))
    return seen, labels, block_folds(grid(H, W), BLOCK, FOLDS, seed=seed), truth


@given(st.integers(0, 2**16), st.integers(0, FOLDS - 1))
@settings(max_examples=15)
def test_lies_inside_a_block_do_not_reach_its_prediction(seed, fold):
    seen, labels, folds, _ = scene(seed)
    inside = folds.ravel() == fold
    reaching = np.isin(labels.bars, labels.owner[inside & (labels.owner > 0)])
    touched = inside[labels.cell] | reaching
    lies = replace(
        labels, shares=np.where(touched[:, None], np.roll(labels.shares, 1, axis=1), labels.shares)
    )
    a, b = predict(seen, [labels] * FOLDS, folds), predict(seen, [lies] * FOLDS, folds)
    np.testing.assert_array_equal(a[inside], b[inside])
    assert not np.array_equal(a[~inside], b[~inside], equal_nan=True)


def test_an_object_that_reaches_into_a_block_is_barred_though_no_label_lies_there():
    seen, labels, folds, _ = scene(1, objects=0)
    inside = folds.ravel() == 0
    outside = np.flatnonzero(~inside[labels.cell])[:20]
    bars = labels.bars.copy()
    bars[outside] = 1
    owner = labels.owner.copy()
    owner[labels.cell[outside]] = 1
    apart = replace(labels, bars=bars, owner=owner)
    owner = owner.copy()
    owner[np.flatnonzero(inside & ~np.isin(np.arange(CELLS), labels.cell))[:3]] = 1
    reaches = replace(apart, owner=owner)
    dropped = replace(
        labels,
        **{
            name: np.delete(getattr(labels, name), outside, axis=0)
            for name in ("cell", "shares", "weight", "bars")
        },
    )
    there = seen.valid & inside
    a, b, c = (predict(seen, [one] * FOLDS, folds)[there] for one in (apart, reaches, dropped))
    np.testing.assert_array_equal(b, c)
    assert not np.array_equal(a, b)


def test_what_can_be_learned_is_learned():
    seen, labels, folds, truth = scene(2, objects=0)
    p = predict(seen, [labels] * FOLDS, folds)
    assert np.isnan(p[~seen.valid]).all()
    p, truth = p[seen.valid], truth[seen.valid]
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p.argmax(axis=1) == truth).mean() > 0.75
    np.testing.assert_array_equal(p, predict(seen, [labels] * FOLDS, folds)[seen.valid])


def test_asking_for_some_cells_gives_the_same_there():
    seen, labels, folds, _ = scene(3)
    only = np.array([0, 5, 77, 300])
    some, everything = (
        predict(seen, [labels] * FOLDS, folds, only=only),
        predict(seen, [labels] * FOLDS, folds),
    )
    np.testing.assert_allclose(some[only], everything[only], atol=1e-6)
    assert np.isnan(np.delete(some, only, axis=0)).all()


def test_a_fold_without_any_label_outside_is_refused():
    seen, labels, folds, _ = scene(4, objects=0)
    everywhere = replace(
        labels, bars=np.ones(len(labels.cell), np.int64), owner=np.ones(CELLS, np.int64)
    )
    with pytest.raises(BadSourceError, match="no label outside fold"):
        predict(seen, [everywhere] * FOLDS, folds)


@given(st.integers(0, 2**16))
@settings(max_examples=15)
def test_symbols_carry_the_mean_of_their_probabilities(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(K, 0.4), CELLS).astype(np.float32)
    p[rng.random(CELLS) < 0.2] = np.nan
    (one,) = observe_stated(
        p,
        geobox=grid(H, W),
        legend=LEGEND,
        source="model",
        interval=Interval.of_year(2020),
        provenance=provenance_of("image"),
    )
    symbols = one.symbols.ravel()
    np.testing.assert_array_equal(symbols == 0, np.isnan(p[:, 0]))
    for number in range(1, len(one.crosswalk.symbols) + 1):
        mean = p[symbols == number].mean(axis=0)
        np.testing.assert_allclose(one.crosswalk.matrix[number - 1], mean, atol=1e-4)
        first = one.crosswalk.symbols[number - 1].split(">")[0]
        assert (p[symbols == number].argmax(axis=1) == LEGEND.names.index(first)).all()


def test_features_are_standard_and_blind_to_invalid_cells():
    rng = np.random.default_rng(0)
    bands = tuple(sensor("sentinel2-l1c").band(name) for name in ("green", "red", "nir"))
    values = rng.uniform(0.01, 0.5, (3, H, W)).astype(np.float32)
    valid = np.ones_like(values, bool)
    valid[1, 3, 4] = False
    clear = np.ones((H, W), bool)
    clear[0, 0] = False

    def chip(values):
        return Chip(
            values=values,
            valid=valid,
            bands=bands,
            geobox=grid(H, W),
            interval=Interval.of_year(2020),
            provenance=provenance_of("image"),
        )

    seen = features([chip(values)], clear)
    assert not seen.valid[[0, 3 * W + 4]].any()
    assert seen.valid.sum() == CELLS - 2
    np.testing.assert_allclose(seen.values[seen.valid].mean(axis=0), 0, atol=0.05)
    other = values.copy()
    other[1, 3, 4] = np.nan
    np.testing.assert_array_equal(seen.values, features([chip(other)], clear).values)
    with pytest.raises(BadSourceError, match="fewer clouds"):
        features([chip(values)], np.zeros((H, W), bool))


# Features of the image model ------------------------------------------------

SENTINEL2 = tuple(sensor("sentinel2-l1c").band(name) for name in ("green", "red", "nir"))


def image(values, bands=SENTINEL2, valid=None):
    return Chip(
        values=values,
        valid=np.ones(values.shape, bool) if valid is None else valid,
        bands=bands,
        geobox=grid(*values.shape[1:]),
        interval=Interval.parse("2020-06-01"),
        provenance=provenance_of("image"),
    )


def reflectance(shape, seed=0):
    return np.random.default_rng(seed).uniform(0.03, 0.3, (3, *shape)).astype(np.float32)


def encoder():
    return Encoder(EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4))


def test_features_of_the_model_stand_beside_those_of_bands():
    chips, clear = (
        [image(reflectance((H, W))), image(reflectance((H, W), 1))],
        np.ones((H, W), bool),
    )
    clear[5:9, 2:5] = False
    bands, both = features(chips, clear), features(chips, clear, "msgfm")
    count = len(bands.names)
    assert both.names[:count] == bands.names
    np.testing.assert_array_equal(both.values[:, :count], bands.values)
    np.testing.assert_array_equal(both.valid, bands.valid)
    assert both.values.shape[1] == count + 2 * 4 * msgfm.COMPONENTS
    np.testing.assert_array_equal(features(chips, clear, "msgfm").values, both.values)


def test_weights_bring_their_origins_licence_and_credits():
    (one,) = weights_behind("msgfm")
    assert one.licences == {"Apache-2.0"}
    assert {"eurosat-rgb", "bigearthnet"} <= one.roots
    assert one.labels == frozenset()
    assert any("OpenAerialMap" in credit for credit in one.attribution)
    assert weights_behind("bands") == ()


def test_cells_that_are_not_clear_do_not_reach_the_model():
    one, clear, net = reflectance((40, 36)), np.ones((40, 36), bool), encoder()
    clear[10:20, 5:30] = False
    other = np.where(clear, one, np.float32(0.9))
    a, b = (msgfm.scene_components([image(v)], clear, encoder=net) for v in (one, other))
    for (name, first), (_, second) in zip(a, b, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_all_components_keep_all_distances_between_tokens(monkeypatch):
    """Components are a rotation of the maps, which tiles with enough halo give as a whole."""
    one, net = reflectance((72, 40)), encoder()
    batch = batch_of(
        {"s2": one[None]}, bands={"s2": ["B03", "B04", "B08"]}, gsd_m={"s2": 10}, day={"s2": 153}
    )
    with torch.no_grad():
        wanted = net(batch).maps[0][0].reshape(-1, 8).numpy()
    monkeypatch.setattr(msgfm, "SIDE", 32)
    layers = msgfm.scene_components(
        [image(one)], np.ones((72, 40), bool), encoder=net, components=8
    )
    fine = np.stack([layer for name, layer in layers if name.startswith("0:map 4 ")], axis=-1)
    # where four cells of four tokens meet, bilinear enlargement gives the mean of the tokens
    tokens = wanted.reshape(18, 10, 8)
    corner = (tokens[:-1, :-1] + tokens[1:, :-1] + tokens[:-1, 1:] + tokens[1:, 1:]) / 4
    cells = [fine[3 + a : 71 : 4, 3 + b : 39 : 4] for a in (0, 1) for b in (0, 1)]
    found = sum(cells) / 4
    for which in (0, 5):
        np.testing.assert_allclose(
            np.linalg.norm(found - found[which, which], axis=-1),
            np.linalg.norm(corner - corner[which, which], axis=-1),
            atol=1e-3,
        )


def test_an_image_that_the_model_does_not_know_is_refused():
    odd = tuple(replace(band, name=f"X{i}") for i, band in enumerate(SENTINEL2))
    with pytest.raises(UnknownSensorError, match="Write features: bands"):
        msgfm.scene_components([image(reflectance((H, W)), odd)], np.ones((H, W), bool))


def test_without_pytorch_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "glocal.sources.models.features_msgfm")
    with pytest.raises(MissingExtraError, match=r"pip install -e packages/msgfm -e '\.\[model\]'"):
        features([image(reflectance((H, W)))], np.ones((H, W), bool), "msgfm")
