"""``torch.compile`` takes the encoder as it is, with its gradients."""

import numpy as np
import pytest
import torch

from msgfm import Encoder, EncoderConfig, batch_of

SMALL = EncoderConfig(width=8, depths=(2,), heads=(1,), window=4, experts=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, about itself
def test_a_compiled_encoder_gives_the_same_maps_and_gradients():
    torch.manual_seed(0)
    encoder = Encoder(SMALL).train()
    rng = np.random.default_rng(0)
    image = rng.uniform(0.1, 0.6, (2, 3, 32, 32)).astype(np.float32)
    image[0, :, :9, 7:] = np.nan
    batch = batch_of({"rgb": image})
    torch.compiler.reset()
    compiled = torch.compile(encoder, backend="aot_eager")  # the default one needs minutes of gcc
    found = []
    for model in (encoder, compiled):
        encoder.zero_grad()
        maps = model(batch).maps
        maps[-1].square().mean().backward()
        found.append([*maps, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
