"""A frozen teacher: what it sees, what it leaves alone, and that agreement grows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from glocal.errors import ConfigError
from glocal.train.pretraining.distil import MEAN, STD, WHITE, Teacher, as_photo, as_reflectance
from glocal.train.pretraining.draw import draw
from glocal.train.pretraining.metrics_log import curve
from glocal.train.pretraining.pretrain import RunOptions, pretrain
from msgfm import MSGFM, ObjectiveConfig, Pretraining, batch_of
from tests.train.pools import ENCODER, Generated, recipe

DISTIL = ObjectiveConfig(distil=1.0)


def network(bands=3, width=5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(bands, width, 8, 8), nn.Dropout(0.5))


def images(value, sensor="rgb", bands=("red", "green", "blue")):
    values = np.full((2, len(bands), 16, 16), value, np.float32)
    return batch_of({sensor: values}, bands={sensor: bands})


def test_true_colours_of_sentinel_2_are_the_same_photo():
    photo = as_photo(images(0.5))
    np.testing.assert_allclose(photo[0, :, 0, 0], (0.5 - np.array(MEAN)) / STD, rtol=1e-5)
    torch.testing.assert_close(as_photo(images(0.5 * WHITE, "s2")), photo)


def test_invalid_pixels_are_the_mean_colour():
    values = np.full((1, 3, 16, 16), 0.9, np.float32)
    values[:, :, :8] = np.nan
    photo = as_photo(batch_of({"rgb": values}))
    assert (photo[:, :, :8] == 0).all()
    assert (photo[:, :, 8:] > 0).all()


def test_the_teacher_is_frozen_and_answers_without_dropout():
    teacher = Teacher(module=network(), width=5, look=as_photo)
    batch = images(0.3)
    assert teacher(batch).shape == (2, 5)
    assert torch.equal(teacher(batch), teacher(batch))
    assert not any(one.requires_grad for one in teacher.module.parameters())


def test_what_it_can_not_see_gives_no_gradient():
    teacher = Teacher(module=network(), width=5, look=as_photo)
    objective = Pretraining(MSGFM(ENCODER), DISTIL, teacher, teacher.width)
    drawn = draw(Generated(sar=4), recipe(), 0)
    losses = objective(drawn.batch, drawn.plan, drawn.masked)
    losses.distil.backward()
    assert losses.distil.item() == 1.0
    assert all(p.grad is None or not p.grad.any() for p in objective.parameters())


def test_bands_by_name():
    values = np.array([0.12, 0.2], np.float32).reshape(1, 2, 1, 1)
    batch = batch_of({"s2": values}, bands={"s2": ("B03", "B11")})
    assert as_reflectance("B11", "B03", "B04")(batch).flatten().tolist() == pytest.approx(
        [0.2, 0.12, 0.0]
    )
    assert as_reflectance("B12")(images(0.3)) is None
    with pytest.raises(ConfigError, match="no band 'B99'"):
        as_reflectance("B99")


def test_a_wrong_width_is_refused():
    with pytest.raises(ConfigError, match="give its width"):
        Teacher(module=network(), width=4, look=as_photo)(images(0.3))


def test_agreement_with_the_teacher_grows_and_the_run_resumes(tmp_path):
    teacher = Teacher(module=network(), width=5, look=as_photo)
    rules = recipe(steps=20, objective=DISTIL)
    options = RunOptions(tensorboard=False)
    pool = Generated(rgb=8)
    half = RunOptions(tensorboard=False, max_hours=0.0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pretrain(rules, pool, whole, options=options, teacher=(teacher, 5))
    for one in (half, options):
        pretrain(rules, pool, parts, options=one, teacher=(teacher, 5))
    losses = [row["distil"] for row in curve(whole)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert curve(parts) == curve(whole)
