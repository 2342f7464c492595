"""What is hidden, what must be painted, and what it costs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msgfm import MSGFM, Batch, EncoderConfig, ObjectiveConfig, Pretraining, batch_of
from msgfm.embed import PATCH
from msgfm.objective import Plan, draw_mask, draw_plan
from msgfm.sensors import bands_of

CONFIG = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
SEEDS = st.integers(0, 2**16)
TO_ITSELF = Plan(("rgb",), "rgb")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MSGFM(CONFIG, {"cover": 4}).eval()


def images(*sensors, count=2, side=24, seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for short in sensors:
        bands = bands_of(short)
        mean = np.array([b.mean for b in bands])[:, None, None]
        std = np.array([b.std for b in bands])[:, None, None]
        made[short] = mean + std * rng.uniform(-1, 1, (count, len(bands), side, side))
    return made


def mask_of(batch, seed=0, config=None):
    rng = np.random.default_rng(seed)
    config = config or ObjectiveConfig()
    return torch.from_numpy(draw_mask(len(batch), batch.shape_yx, rng, config))


def with_map(batch, classes):
    return Batch(
        values=batch.values,
        valid=batch.valid,
        gsd_m=batch.gsd_m,
        day=batch.day,
        maps={"cover": classes},
    )


# Masks


@settings(max_examples=50)
@given(
    seed=SEEDS,
    count=st.integers(1, 4),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    ratio=st.floats(0.05, 0.95),
    cells=st.integers(1, 12),
)
def test_a_mask_hides_whole_cells_of_the_token_grid(seed, count, height, width, ratio, cells):
    config = ObjectiveConfig(mask_ratio=ratio, cells=cells)
    mask = draw_mask(count, (height, width), np.random.default_rng(seed), config)
    h, w = -(-height // PATCH), -(-width // PATCH)
    assert mask.shape == (count, h, w)
    cell = max(1, round(max(h, w) / cells))
    rows, columns = -(-h // cell), -(-w // cell)
    corners = mask[:, ::cell, ::cell]
    assert corners.shape == (count, rows, columns)
    assert np.array_equal(mask, corners.repeat(cell, 1).repeat(cell, 2)[:, :h, :w])
    hidden = corners.sum((1, 2))
    visible = rows * columns - hidden
    assert ((hidden >= rows * columns * ratio - 1e-9) | (visible == min(1, rows * columns))).all()
    assert (hidden < rows * columns * ratio + 1).all()
    assert (visible >= 1).all()


@pytest.mark.parametrize(("side", "cell_px"), [(192, 32), (96, 16), (48, 8), (64, 12), (24, 4)])
def test_cells_are_a_sixth_of_the_side_rounded_to_tokens(side, cell_px):
    mask = draw_mask(64, (side, side), np.random.default_rng(0), ObjectiveConfig())
    pixels = mask.repeat(PATCH, 1).repeat(PATCH, 2)
    change = np.flatnonzero((pixels[:, :, 1:] != pixels[:, :, :-1]).any((0, 1))) + 1
    assert change.tolist() == list(range(cell_px, side, cell_px))


def test_of_36_cells_22_are_hidden_and_each_as_often():
    mask = draw_mask(2000, (192, 192), np.random.default_rng(0), ObjectiveConfig())
    corners = mask[:, ::8, ::8]
    assert (corners.sum((1, 2)) == 22).all()
    assert np.abs(corners.mean(0) - 22 / 36).max() < 0.05


@pytest.mark.parametrize(("ratio", "share"), [(0, 0), (1, 1)])
def test_nothing_or_everything_may_be_hidden(ratio, share):
    config = ObjectiveConfig(mask_ratio=ratio)
    assert draw_mask(3, (40, 20), np.random.default_rng(0), config).mean() == share


# Plans


def plans(sensors, charts=(), count=2000, **config):
    rng = np.random.default_rng(0)
    return [draw_plan(sensors, rng, ObjectiveConfig(**config), charts) for _ in range(count)]


@pytest.mark.parametrize("cross", [0.0, 0.5, 1.0])
def test_the_partner_is_painted_as_often_as_asked(cross):
    drawn = plans(("s2", "sar"), cross=cross)
    assert all(len(plan.sources) == 1 for plan in drawn)
    assert np.mean([p.target != p.sources[0] for p in drawn]) == pytest.approx(cross, abs=0.04)
    assert np.mean([p.sources[0] == "s2" for p in drawn]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("config", [{"cross": 1.0}, {"joint": 1.0}, {"cross": 1.0, "joint": 1.0}])
def test_an_image_without_partner_paints_itself(config):
    assert set(plans(("rgb",), **config)) == {TO_ITSELF}


def test_each_of_several_partners_is_painted_as_often():
    targets = [p.target for p in plans(("s2", "sar", "dsm"), cross=1.0) if p.sources == ("s2",)]
    assert set(targets) == {"sar", "dsm"}
    assert np.mean([t == "sar" for t in targets]) == pytest.approx(0.5, abs=0.07)


def test_jointly_all_go_in_and_the_masked_one_is_painted():
    drawn = plans(("s2", "sar", "dsm"), joint=0.3)
    together = [p for p in drawn if len(p.sources) > 1]
    assert len(together) / len(drawn) == pytest.approx(0.3, abs=0.04)
    assert all(p.target == p.sources[0] and len(set(p.sources)) == 3 for p in together)
    assert {p.target for p in together} == {"s2", "sar", "dsm"}


def test_maps_are_painted_as_often_as_asked_where_there_are_any():
    drawn = plans(("s2",), ("cover", "osm"), maps=0.4)
    charts = [p.target for p in drawn if p.target in ("cover", "osm")]
    assert len(charts) / len(drawn) == pytest.approx(0.4, abs=0.04)
    assert np.mean([c == "osm" for c in charts]) == pytest.approx(0.5, abs=0.06)
    assert set(plans(("rgb",), (), maps=1.0)) == {TO_ITSELF}


def test_the_same_seed_draws_the_same():
    assert plans(("s2", "sar"), joint=0.5) == plans(("s2", "sar"), joint=0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"mask_ratio": 1.1}, {"cross": -0.1}, {"joint": 2}, {"maps": np.nan}, {"cells": 0}, {"z": -1}],
)
def test_impossible_choices_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ObjectiveConfig(**wrong)


# Losses


def slow_l1(model, batch, plan, masked):
    """Loop over pixels: hidden ones that are valid, in the units of the normaliser."""
    features = model.encoder(batch.only(*plan.sources), {plan.sources[0]: masked})
    painted = model.reconstruct(features, plan.target, batch.shape_yx)
    valid = batch.valid[plan.target]
    truth = model.embedding(plan.target).normalise(batch.values[plan.target], valid)
    costs = [
        abs(painted[b, c, y, x].item() - truth[b, c, y, x].item())
        for b, c, y, x in valid.nonzero().tolist()
        if masked[b, y // PATCH, x // PATCH]
    ]
    return sum(costs) / max(len(costs), 1), len(costs)


@settings(max_examples=10)
@given(
    seed=SEEDS,
    plan=st.sampled_from(
        [
            Plan(("s2",), "s2"),
            Plan(("s2",), "sar"),
            Plan(("dsm",), "s2"),
            Plan(("sar", "s2", "dsm"), "sar"),
        ]
    ),
    side=st.integers(5, 17),
)
@torch.no_grad()
def test_the_loss_is_the_mean_over_hidden_and_valid_pixels(model, seed, plan, side):
    arrays = images("s2", "sar", "dsm", side=side, seed=seed)
    rng = np.random.default_rng(seed)
    arrays = {k: np.where(rng.random(v.shape) < 0.3, np.nan, v) for k, v in arrays.items()}
    batch = batch_of(arrays)
    masked = mask_of(batch, seed)
    losses = Pretraining(model, ObjectiveConfig()).eval()(batch, plan, masked)
    cost, count = slow_l1(model, batch, plan, masked)
    assert losses.values == count
    assert losses.reconstruction.item() == pytest.approx(cost, rel=1e-4)


def test_the_total_is_the_weighted_sum_of_its_parts(model):
    batch = batch_of(images("rgb"))
    config = ObjectiveConfig(balance=0.3, z=0.2)
    losses = Pretraining(model, config)(batch, TO_ITSELF, mask_of(batch))
    wanted = losses.reconstruction + 0.3 * losses.balance + 0.2 * losses.z
    assert losses.balance > 0
    assert losses.load.sum().item() == pytest.approx(1)
    assert losses.z > 0
    assert losses.distil == 0
    torch.testing.assert_close(losses.total, wanted)


def test_a_dense_encoder_has_no_routing_to_pay_for():
    torch.manual_seed(0)
    shape = {"width": 8, "depths": (1, 2), "heads": (1, 1), "window": 4, "experts": 1}
    batch = batch_of(images("rgb"))
    losses = Pretraining(MSGFM(EncoderConfig(**shape)), ObjectiveConfig())(
        batch, TO_ITSELF, mask_of(batch)
    )
    assert losses.balance == losses.z == losses.dropped == losses.load == 0
    assert losses.total == losses.reconstruction


@torch.no_grad()
def test_a_target_that_is_invalid_wherever_hidden_costs_nothing(model):
    arrays = images("s2", "sar")
    batch = batch_of(arrays)
    masked = mask_of(batch)
    hidden = masked.numpy().repeat(PATCH, 1).repeat(PATCH, 2)[:, None]
    arrays["sar"] = np.where(hidden, np.nan, arrays["sar"])
    losses = Pretraining(model, ObjectiveConfig())(batch_of(arrays), Plan(("s2",), "sar"), masked)
    assert losses.reconstruction == 0
    assert losses.values == 0
    assert torch.isfinite(losses.total)


@torch.no_grad()
def test_what_an_invalid_pixel_holds_costs_nothing(model):
    arrays = images("s2", "sar")
    valid = np.random.default_rng(0).random(arrays["sar"].shape) < 0.5
    losses = []
    for noise in (-20.0, -1.0):
        noisy = {**arrays, "sar": np.where(valid, arrays["sar"], noise)}
        batch = batch_of(noisy, valid={"sar": valid})
        objective = Pretraining(model, ObjectiveConfig()).eval()
        losses.append(objective(batch, Plan(("s2",), "sar"), mask_of(batch)).total)
    assert losses[0] == losses[1]


@torch.no_grad()
def test_the_loss_does_not_see_the_target_of_visible_cells(model):
    arrays = images("s2", "sar")
    batch = batch_of(arrays)
    masked = mask_of(batch)
    hidden = masked.numpy().repeat(PATCH, 1).repeat(PATCH, 2)[:, None]
    other = batch_of({**arrays, "sar": np.where(hidden, arrays["sar"], arrays["sar"] - 3)})
    objective = Pretraining(model, ObjectiveConfig()).eval()
    plan = Plan(("s2",), "sar")
    assert objective(batch, plan, masked).total == objective(other, plan, masked).total


def test_a_map_costs_its_cross_entropy_where_it_is_known(model):
    batch = batch_of(images("rgb", side=10))
    rng = np.random.default_rng(0)
    classes = torch.from_numpy(rng.integers(-1, 4, (2, 10, 10)))
    masked = mask_of(batch)
    with torch.no_grad():
        losses = Pretraining(model, ObjectiveConfig()).eval()(
            with_map(batch, classes), Plan(("rgb",), "cover"), masked
        )
        features = model.encoder(batch, {"rgb": masked})
        chance = model.reconstruct(features, "cover", (10, 10)).softmax(1)
    costs = [
        -torch.log(chance[b, classes[b, y, x], y, x]).item()
        for b, y, x in (classes >= 0).nonzero().tolist()
        if masked[b, y // PATCH, x // PATCH]
    ]
    assert losses.values == len(costs)
    assert losses.reconstruction.item() == pytest.approx(np.mean(costs), rel=1e-4)


def test_a_map_without_a_known_class_costs_nothing(model):
    batch = with_map(batch_of(images("rgb")), torch.full((2, 24, 24), -1))
    losses = Pretraining(model, ObjectiveConfig())(batch, Plan(("rgb",), "cover"), mask_of(batch))
    assert losses.reconstruction == 0
    losses.total.backward()
    model.zero_grad()


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 7, 6), (1, 6, 6)])
def test_a_mask_of_another_shape_is_refused(model, shape):
    batch = batch_of(images("rgb"))
    with pytest.raises(ValueError, match=r"the mask of rgb must be \(2, 6, 6\)"):
        Pretraining(model, ObjectiveConfig())(
            batch, TO_ITSELF, torch.zeros(shape, dtype=torch.bool)
        )


def test_a_mask_of_a_sensor_that_is_not_there_is_refused(model):
    batch = batch_of(images("rgb"))
    with pytest.raises(ValueError, match="the mask of s2"):
        model.encoder(batch, {"s2": mask_of(batch)})


# Distillation


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.look = nn.Linear(3, 5)

    def forward(self, batch):
        return self.look(batch.values["rgb"].mean((2, 3)))


def test_the_gradient_of_distillation_reaches_the_student_alone():
    torch.manual_seed(0)
    teacher = Teacher()
    objective = Pretraining(MSGFM(CONFIG), ObjectiveConfig(distil=1.0), teacher, 5)
    batch = batch_of(images("rgb"))
    losses = objective(batch, TO_ITSELF, mask_of(batch))
    assert 0 <= losses.distil <= 2
    torch.testing.assert_close(
        losses.total - losses.reconstruction - 0.01 * losses.balance - 0.001 * losses.z,
        losses.distil,
    )
    losses.distil.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert objective.project.weight.grad.abs().sum() > 0
    assert objective.model.encoder.embed_tokens.unknown.grad.abs().sum() > 0
    assert not any("look" in name for name, _ in objective.named_parameters())


@pytest.mark.parametrize(("weight", "teacher"), [(0.0, Teacher), (1.0, None)])
def test_a_teacher_and_its_weight_belong_together(weight, teacher):
    with pytest.raises(ValueError, match="needed together"):
        Pretraining(MSGFM(CONFIG), ObjectiveConfig(distil=weight), teacher and teacher(), 5)


# Learning


@pytest.mark.parametrize("plan", [TO_ITSELF, Plan(("rgb",), "dsm"), Plan(("dsm", "rgb"), "dsm")])
def test_a_few_steps_on_one_batch_lower_the_loss(plan):
    torch.manual_seed(0)
    objective = Pretraining(MSGFM(CONFIG), ObjectiveConfig()).train()
    batch = batch_of(images("rgb", "dsm"))
    masked = mask_of(batch)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    costs = []
    for _ in range(25):
        optimizer.zero_grad()
        losses = objective(batch, plan, masked)
        losses.total.backward()
        optimizer.step()
        costs.append(losses.reconstruction.item())
    assert costs[-1] < 0.9 * costs[0]


def test_the_output_of_embed_can_train_a_head(model):
    head = nn.Linear(2 * sum(CONFIG.widths), 2)
    head(model.encoder.embed(images("rgb"))).sum().backward()
    assert head.weight.grad.abs().sum() > 0
    assert not model.encoder.embed(images("rgb")).requires_grad
