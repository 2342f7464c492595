"""Looks at a place, and whether their agreement is worth something."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msgfm import Encoder, EncoderConfig, batch_of
from msgfm.agreement import Agreement, look

CONFIG = EncoderConfig(
    width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2, capacity=None
)


def places(count=4, side=24, seed=0):
    rng = np.random.default_rng(seed)
    rgb = rng.uniform(0.3, 0.6, (count, 3, 1, 1)) + rng.uniform(-0.1, 0.1, (count, 3, side, side))
    sar = rng.normal(-11, 1, (count, 2, side, side)) - [[[[0]], [[6]]]]
    return batch_of({"rgb": rgb, "sar": sar})


@settings(max_examples=25)
@given(seed=st.integers(0, 999), side=st.integers(1, 40))
def test_a_look_is_a_crop_with_every_pixel_at_one_place(seed, side):
    """A picture of positions keeps its order in a crop, up to turns, when light does not change."""
    batch = places()
    y, x = np.mgrid[:24, :24]
    code = torch.from_numpy((y * 24 + x).astype(np.float32)).expand(4, 3, 24, 24)
    coded = batch_of({"dsm": code[:, :1].numpy()})
    torch.manual_seed(seed)
    cut = look(coded, side)
    assert cut.shape_yx == (min(side, 24),) * 2
    for one in cut.values["dsm"][:, 0]:
        steps = torch.stack([one.diff(dim=0).flatten()[:1], one.diff(dim=1).flatten()[:1]])
        if steps.numel() == 2:  # one step along a row, 24 along a column, times one gain
            ratio = (steps.abs().max() / steps.abs().min()).item()
            assert ratio == pytest.approx(24, rel=1e-3)
    assert len(batch) == 4


def test_sensors_are_cut_alike_and_invalid_pixels_stay_so():
    batch = places()
    for mask in batch.valid.values():
        mask[:, :, :12] = False
    torch.manual_seed(1)
    cut = look(batch, 16)
    rgb, sar = cut.valid["rgb"][:, 0], cut.valid["sar"][:, 0]
    assert torch.equal(rgb, sar)
    assert 0 < rgb.float().mean() < 1
    assert (cut.values["rgb"][~cut.valid["rgb"]] == 0).all()


def test_the_same_seed_takes_the_same_looks():
    torch.manual_seed(3)
    one = look(places(), 16).values["rgb"]
    torch.manual_seed(3)
    assert torch.equal(one, look(places(), 16).values["rgb"])


def test_agreement_can_be_learned_and_is_at_chance_before():
    torch.manual_seed(0)
    encoder, batch = Encoder(CONFIG), places(8)
    term = Agreement(CONFIG.widths, side=16)
    rate = torch.optim.AdamW([*encoder.parameters(), *term.parameters()], lr=3e-3)
    losses = []
    for _ in range(80):
        loss = term(encoder, batch, ("rgb", "rgb"))
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(loss.item())
    assert losses[0] > 0.6 * np.log(15)
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_looks_of_two_sensors_and_places_that_see_nothing():
    torch.manual_seed(0)
    encoder, batch = Encoder(CONFIG), places(3)
    batch.valid["sar"][0] = False
    loss = Agreement(CONFIG.widths, side=16)(encoder, batch, ("rgb", "sar"))
    assert torch.isfinite(loss)
    batch.valid["sar"][1] = False
    lonely = Agreement(CONFIG.widths, side=16)(encoder, batch, ("rgb", "sar"))
    assert lonely.item() == 0
    lonely.backward()
