from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msgfm import Encoder, EncoderConfig, batch_of
from msgfm.heads import ImageHead, LinearHead, UPerHead

CONFIG = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)


def maps(height: int, width: int, count: int = 2) -> list[Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return list(
            Encoder(CONFIG).eval()(batch_of({"rgb": torch.rand(count, 3, height, width)})).maps
        )


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (4, 9), (1, 1)])
def test_heads_answer_at_the_resolution_of_the_input(size: tuple[int, int]) -> None:
    levels = maps(*size)
    for head in (UPerHead(CONFIG.widths, 5, width=8), LinearHead(CONFIG.widths, 5)):
        assert head(levels, size).shape == (2, 5, *size)
    image = ImageHead(CONFIG.widths, 3, 4, width=8)
    assert image(levels, torch.rand(2, 3, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize(
    "head", [UPerHead(CONFIG.widths, 5, width=8), LinearHead(CONFIG.widths, 5)]
)
def test_batch_mates_have_no_influence(head: torch.nn.Module) -> None:
    levels = maps(40, 48, 3)
    together = head(levels, (40, 48))
    alone = head([one[1:2] for one in levels], (40, 48))
    torch.testing.assert_close(together[1:2], alone)


def test_a_token_answers_for_the_pixels_that_it_saw() -> None:
    head = LinearHead((1,), 1)
    torch.nn.init.ones_(head.linear.weight)
    level = torch.zeros(1, 8, 8, 1)
    head.norms[0] = torch.nn.Identity()
    level[0, 2, 5] = 1
    levels = ([level], [torch.zeros_like(level)])
    some, none = (head(one, (32, 32))[0, 0].detach() for one in levels)
    answer = some - none
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centre = [float((answer * axis).sum() / answer.sum()) for axis in (rows, columns)]
    assert centre == pytest.approx([2 * 4 + 1.5, 5 * 4 + 1.5])


def test_the_skip_path_carries_detail_finer_than_a_token() -> None:
    head = ImageHead(CONFIG.widths, 1, 1, width=8)
    pixels = torch.zeros(1, 1, 32, 32)
    other = pixels.clone()
    other[0, 0, 17, 9] = 1
    change = (head(maps(32, 32, 1), other) - head(maps(32, 32, 1), pixels)).abs()[0, 0]
    far = change.clone()
    far[15:20, 7:12] = 0
    assert change[17, 9] > 0
    assert far.max() < 1e-6


def test_gradients_reach_every_parameter() -> None:
    levels = maps(64, 64)
    for head, second in (
        (UPerHead(CONFIG.widths, 5, width=8), (64, 64)),
        (LinearHead(CONFIG.widths, 5), (64, 64)),
        (ImageHead(CONFIG.widths, 3, 4, width=8), torch.rand(2, 3, 64, 64)),
    ):
        head(levels, second).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
