"""Decoders: back to physical units, at any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msgfm import MSGFM, EncoderConfig, batch_of
from msgfm.blocks import MixtureOfExperts
from msgfm.embed import Normaliser
from msgfm.errors import SensorError
from msgfm.sensors import bands_of

CONFIG = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
SENSORS = ("rgb", "s2", "sar", "dsm", "l8")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MSGFM(CONFIG, {"cover": 5}).eval()


@settings(max_examples=20)
@given(seed=st.integers(0, 999), short=st.sampled_from(SENSORS))
def test_a_perfect_normalised_prediction_is_the_image(seed, short):
    bands, rng = bands_of(short), np.random.default_rng(seed)
    normalise = Normaliser(bands)
    std = torch.tensor([b.std for b in bands]).view(1, -1, 1, 1)
    mean = torch.tensor([b.mean for b in bands]).view(1, -1, 1, 1)
    image = mean + std * torch.from_numpy(rng.normal(size=(2, len(bands), 5, 7))).float()
    valid = torch.from_numpy(rng.random(image.shape) < 0.7)
    again = normalise.invert(normalise(image, valid))
    wanted = image
    if short == "dsm":  # relief alone is read and painted
        own = [a[v].mean() for a, v in zip(image, valid, strict=True)]
        wanted = image - torch.stack(own).view(-1, 1, 1, 1)
    torch.testing.assert_close(again[valid], wanted[valid], rtol=1e-4, atol=1e-4)
    assert (normalise(image, valid)[~valid] == 0).all()


def test_relief_does_not_depend_on_the_height_above_the_sea():
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 10
    valid = torch.ones_like(image, dtype=torch.bool)
    normalise = Normaliser(bands_of("dsm"))
    torch.testing.assert_close(
        normalise(image, valid), normalise(image + 4000, valid), rtol=0, atol=1e-3
    )


@settings(max_examples=15)
@given(
    height=st.integers(1, 45),
    width=st.integers(1, 45),
    source=st.sampled_from(["rgb", "dsm"]),
    target=st.sampled_from(["rgb", "s2", "sar", "dsm"]),
)
def test_any_size_decodes_to_itself(model, height, width, source, target):
    count = len(bands_of(source))
    batch = batch_of({source: np.full((2, count, height, width), 0.4)})
    with torch.no_grad():
        features = model.encoder(batch)
        cut = model.decode(features, target, (height, width))
        whole = model.decode(features, target)
    channels = len(bands_of(target))
    assert cut.shape == (2, channels, height, width)
    assert whole.shape == (2, channels, -(-height // 4) * 4, -(-width // 4) * 4)
    assert torch.equal(whole[..., :height, :width], cut)
    assert torch.isfinite(whole).all()


def test_decode_speaks_physical_units(model):
    features = model.encoder(batch_of({"rgb": np.full((1, 3, 16, 16), 0.4)}))
    for short in CONFIG.sensors:
        last = model.decoders[short].pixels
        kept = last.weight.data.clone(), last.bias.data.clone()
        last.weight.data.zero_()
        last.bias.data.fill_(1)
        painted = model.decode(features, short).mean((0, 2, 3))
        wanted = torch.tensor([b.mean + b.std for b in bands_of(short)])
        last.weight.data, last.bias.data = kept
        torch.testing.assert_close(painted.detach(), wanted)


def test_a_map_has_logits_and_no_units(model):
    features = model.encoder(batch_of({"rgb": np.full((1, 3, 10, 6), 0.4)}))
    assert model.reconstruct(features, "cover", (10, 6)).shape == (1, 5, 10, 6)
    for name in ("cover", "aster"):
        with pytest.raises(SensorError, match=f"no embedding for '{name}'; it has: rgb"):
            model.decode(features, name)


def test_a_map_may_not_be_called_as_a_sensor():
    with pytest.raises(ValueError, match=r"\['rgb'\]"):
        MSGFM(CONFIG, {"rgb": 3})


def test_every_stage_reaches_the_pixels(model):
    features = model.encoder(batch_of({"rgb": np.full((1, 3, 32, 32), 0.4)}))
    maps = tuple(m.detach().requires_grad_() for m in features.maps)
    model.decoders["sar"](maps).square().sum().backward()
    assert all(m.grad.abs().sum() > 0 for m in maps)


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (2, 1), (4, 1), (4, 3)])
def test_the_parameters_that_a_token_uses_are_counted(experts, top_k):
    def made(**about):
        shape = {"width": 8, "depths": (1, 1, 2, 1), "heads": (1, 1, 1, 1), "window": 4}
        return MSGFM(EncoderConfig(**shape, **about))

    model = made(experts=experts, top_k=top_k)
    active, stored = model.parameter_counts()
    assert stored == sum(p.numel() for p in model.encoder.parameters())
    mixtures = [m for m in model.encoder.modules() if isinstance(m, MixtureOfExperts)]
    assert len(mixtures) == (experts > 1)
    one = 32 * 128 + 128 + 128 * 32 + 32  # of the long stage: width 8 * 4, four times as wide
    assert stored - active == (experts - top_k) * one * len(mixtures)
    dense = made(experts=1).parameter_counts()[0]
    router = 32 * experts * len(mixtures)
    assert active == dense + router + (top_k - 1) * one * len(mixtures)
