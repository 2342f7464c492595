"""The OpenVINO export answers as the encoder does."""

import numpy as np
import pytest
import torch

pytest.importorskip("openvino", reason="pip install -e 'packages/msgfm[openvino]'")

from msgfm import Encoder, EncoderConfig, batch_of
from msgfm.encoder import bf16_is_fast
from msgfm.errors import CheckpointError, InputSizeError
from msgfm.export import from_openvino, to_openvino

SMALL = EncoderConfig(width=8, depths=(1, 2), heads=(1, 2), window=4, experts=3)


def example(count=2, side=32, seed=0):
    rng = np.random.default_rng(seed)
    rgb = rng.uniform(0.1, 0.6, (count, 3, side, side)).astype(np.float32)
    dsm = rng.uniform(900, 950, (count, 1, side, side)).astype(np.float32)
    rgb[0, :, :13, 10:] = np.nan
    dsm[0, :, :13, 10:] = np.nan
    return batch_of({"rgb": rgb, "dsm": dsm}, day={"rgb": 120}, gsd_m={"rgb": 0.3})


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    made = Encoder(SMALL).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "router.weight")):  # zeros at first would hide mistakes
            torch.nn.init.normal_(parameter, std=0.5)
    return made


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    to = tmp_path_factory.mktemp("openvino") / "small"
    to_openvino(encoder, ("rgb", "dsm"), (32, 32), to, batch=2)
    return to


@pytest.mark.parametrize("complete", [True, False])
def test_float32_is_the_encoder_to_four_digits(encoder, folder, complete):
    batch = example(seed=1)
    if complete:
        batch = batch.rows(torch.tensor([1, 1]))
    with torch.inference_mode():
        wanted = encoder(batch).maps
    for mine, theirs in zip(
        wanted, from_openvino(folder, bf16=False, threads=1)(batch), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not bf16_is_fast(torch.device("cpu")), reason="no bfloat16 in this processor")
def test_bfloat16_is_the_encoder_to_two_digits(encoder, folder):
    batch = example()
    with torch.inference_mode():
        wanted = encoder(batch).maps
    for mine, theirs in zip(wanted, from_openvino(folder, threads=1)(batch), strict=True):
        assert float((mine - theirs).norm() / mine.norm()) < 0.05


def test_another_size_is_refused(encoder, folder, tmp_path):
    with pytest.raises(InputSizeError, match=r"exported for"):
        from_openvino(folder, threads=1)(example(count=1))
    with pytest.raises(InputSizeError, match=r"multiple of 8"):
        to_openvino(encoder, ("rgb",), (50, 32), tmp_path / "new")


def test_a_full_folder_is_refused(encoder, folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"not empty"):
        to_openvino(encoder, ("rgb",), (32, 32), folder)
    with pytest.raises(CheckpointError, match=r"to_openvino"):
        from_openvino(tmp_path)
