"""The pretraining loop: exact resume, refusals, and the laws of its parts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from glocal.errors import ConfigError, RunError
from glocal.train.pretraining import pretrain as loop
from glocal.train.pretraining.checkpoints import latest, load_checkpoint
from glocal.train.pretraining.draw import draw, draws
from glocal.train.pretraining.learner import decay_at, decay_groups, update_average
from glocal.train.pretraining.metrics_log import MetricsLog, curve
from glocal.train.pretraining.pretrain import RunOptions, pretrain
from glocal.train.pretraining.recipe import PretrainConfig, differences, learning_rate
from msgfm import MSGFM, Encoder, ObjectiveConfig, Pretraining
from msgfm.errors import CheckpointError
from tests.train.pools import ENCODER, Generated, pool, recipe

QUIET = {"tensorboard": False, "flush_every": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    outcome = pretrain(recipe(), pool(), out, options=RunOptions(checkpoint_every=3, **QUIET))
    assert (outcome.step, outcome.why) == (8, "done")
    return out


def state(out):
    return load_checkpoint(latest(out / "checkpoints"))[0]


def assert_same_run(out, other):
    assert curve(out) == curve(other)
    mine, theirs = state(out), state(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


class Stopping(Generated):
    """Raises when the chips of a step are drawn, as a broken disk would."""

    def __init__(self, calls):
        super().__init__(rgb=40, s2_sar=20)
        self.calls = calls

    def draw(self, sensors, n, rng):
        self.calls -= 1
        if self.calls < 0:
            raise OSError("gone")
        return super().draw(sensors, n, rng)


def test_a_run_that_broke_off_goes_on_bit_by_bit(whole, tmp_path):
    options = RunOptions(checkpoint_every=3, readers=0, **QUIET)
    with pytest.raises(OSError, match="gone"):
        pretrain(recipe(), Stopping(calls=6), tmp_path, options=options)
    # steps 3 and 4 were made after the checkpoint of step 3, and are made again
    assert latest(tmp_path / "checkpoints").name == "step-00000003"
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "lost": true}\n{"step": 4, "cut sho')
    outcome = pretrain(recipe(), pool(), tmp_path, options=options)
    assert outcome.step == 8
    assert_same_run(tmp_path, whole)


def test_a_killed_process_goes_on_bit_by_bit(whole, tmp_path):
    root = Path(__file__).parents[3]
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from glocal.train.pretraining import pretrain as loop\n"
        "from tests.train.pools import pool, recipe\n"
        "import torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "def die(stage, share):\n"
        "    if stage.startswith('step 5 '): os.kill(os.getpid(), signal.SIGKILL)\n"
        "options = loop.RunOptions(checkpoint_every=2, tensorboard=False)\n"
        "loop.pretrain(recipe(), pool(), Path(sys.argv[1]), options=options, progress=die)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(torch.get_num_threads())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert latest(tmp_path / "checkpoints").name == "step-00000004"
    pretrain(recipe(), pool(), tmp_path, options=RunOptions(**QUIET))
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves_it(kind, whole, tmp_path):
    before = signal.getsignal(kind)

    def ask(stage, share):
        if stage.startswith("step 4 "):
            signal.raise_signal(kind)

    first = pretrain(recipe(), pool(), tmp_path, options=RunOptions(**QUIET), progress=ask)
    assert (first.step, first.why) == (4, "signal")
    assert signal.getsignal(kind) is before
    assert len(curve(tmp_path)) == 4
    second = pretrain(recipe(), pool(), tmp_path, options=RunOptions(**QUIET))
    assert (second.step, second.why) == (8, "done")
    assert_same_run(tmp_path, whole)


def test_the_time_of_all_resumptions_counts(whole, tmp_path):
    spent = pretrain(recipe(), pool(), tmp_path, options=RunOptions(max_hours=0.0, **QUIET))
    assert (spent.step, spent.why) == (1, "time")
    enough = (spent.seconds + 3600) / 3600
    again = pretrain(recipe(), pool(), tmp_path, options=RunOptions(max_hours=enough, **QUIET))
    assert again.why == "done"
    assert again.seconds > spent.seconds
    assert_same_run(tmp_path, whole)


def test_a_finished_run_stays_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")}
    outcome = pretrain(recipe(), pool(), whole, options=RunOptions(**QUIET))
    assert (outcome.step, outcome.why) == (8, "done")
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")} == before
    assert len(curve(whole)) == 8


def test_two_checkpoints_stay_and_no_pickle_is_written(whole):
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000008"]
    files = {path.suffix for path in whole.rglob("*") if path.is_file()}
    assert files == {".json", ".jsonl", ".safetensors"}


def test_the_weights_are_the_average(whole):
    saved = load_file(whole / "weights" / "weights.safetensors")
    averages = {n: v for n, v in state(whole).items() if n.startswith("average.")}
    assert averages
    assert all(torch.equal(saved[n.removeprefix("average.")], v) for n, v in averages.items())
    models = {n: v for n, v in state(whole).items() if n.startswith("model.model.")}
    assert any(not torch.equal(saved[n.removeprefix("model.model.")], v) for n, v in models.items())
    vector = Encoder.from_pretrained(whole / "weights").embed({"rgb": np.full((1, 3, 32, 32), 0.3)})
    assert torch.isfinite(vector).all()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (recipe(seed=1), "recipe.training.seed: 0, now 1"),
        (recipe(steps=9), "recipe.training.steps: 8, now 9"),
        (recipe(objective=ObjectiveConfig(cross=1.0)), "recipe.objective.cross: 0.5, now 1.0"),
    ],
)
def test_another_recipe_is_refused(whole, changed, field):
    with pytest.raises(ConfigError, match=field):
        pretrain(changed, pool(), whole, options=RunOptions(**QUIET))


@pytest.mark.parametrize("other", [Generated(rgb=41, s2_sar=20), Generated(24, rgb=40, s2_sar=20)])
def test_other_data_is_refused(whole, other):
    with pytest.raises(ConfigError, match="data"):
        pretrain(recipe(), other, whole, options=RunOptions(**QUIET))


def test_a_damaged_checkpoint_is_named(tmp_path):
    pretrain(recipe(steps=2), pool(), tmp_path, options=RunOptions(**QUIET))
    file = latest(tmp_path / "checkpoints") / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="step-00000002 is damaged: the sha256"):
        pretrain(recipe(steps=2), pool(), tmp_path, options=RunOptions(**QUIET))


def test_a_checkpoint_of_the_future_is_refused(tmp_path):
    pretrain(recipe(steps=2), pool(), tmp_path, options=RunOptions(**QUIET))
    file = latest(tmp_path / "checkpoints") / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        pretrain(recipe(steps=2), pool(), tmp_path, options=RunOptions(**QUIET))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    update = loop.update

    def spoilt(*args):
        return {name: value * math.nan for name, value in update(*args).items()}

    monkeypatch.setattr(loop, "update", spoilt)
    with pytest.raises(RunError, match=r"loss of step 0 .* is nan"):
        pretrain(recipe(), pool(), tmp_path, options=RunOptions(**QUIET))
    assert latest(tmp_path / "checkpoints") is None


def test_bf16_follows_fp32(whole, tmp_path):
    half = recipe(precision="bf16-mixed")
    pretrain(half, pool(), tmp_path, options=RunOptions(**QUIET))
    losses = [[row["reconstruction"] for row in curve(out)] for out in (whole, tmp_path)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_training_learns(tmp_path):
    flat = Generated(rgb=8)
    pretrain(recipe(steps=40, base_rate=3e-2), flat, tmp_path, options=RunOptions(**QUIET))
    losses = [row["reconstruction"] for row in curve(tmp_path)]
    assert np.mean(losses[-10:]) < 0.98 * np.mean(losses[:10])


def test_a_draw_depends_on_the_step_alone():
    one, two = draw(pool(), recipe(), 5), list(draws(pool(), recipe(), 3, readers=2))[2]
    assert one.plan == two.plan
    assert torch.equal(one.masked, two.masked)
    assert all(torch.equal(v, two.batch.values[k]) for k, v in one.batch.values.items())
    other = draw(pool(), recipe(), 6)
    assert one.plan != other.plan or not torch.equal(one.masked, other.masked)


def test_groups_are_drawn_by_the_power_of_their_count():
    class Counting(Generated):
        seen = ()

        def draw(self, sensors, n, rng):
            self.seen = (*self.seen, tuple(sensors))
            return super().draw(sensors, n, rng)

    many = Counting(8, rgb=900, s2=100)
    for step in range(400):
        draw(many, recipe(batch=1), step)
    # √900 : √100 = 3 : 1; four standard deviations of a binomial
    assert abs(many.seen.count(("rgb",)) - 300) < 4 * math.sqrt(400 * 0.75 * 0.25)


@given(
    steps=st.integers(2, 300),
    share=st.floats(0, 0.5),
    floor=st.floats(0, 1),
    rule=st.sampled_from(["sqrt", "linear"]),
)
def test_the_rate_rises_then_falls_to_its_minimum(steps, share, floor, rule):
    config = PretrainConfig(
        steps=steps, warmup=int(share * steps), min_share=floor, rate_rule=rule, batch=64
    )
    rates = [learning_rate(step, config) for step in range(steps)]
    top = config.warmup
    assert config.peak_rate == pytest.approx(3e-4 * (0.5 if rule == "sqrt" else 0.25))
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) <= 1e-12)
    assert rates[top] == pytest.approx(config.peak_rate)
    if steps - top > 1:
        assert rates[-1] == pytest.approx(config.peak_rate * floor)


def test_the_average_equals_its_slow_twin():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    average = deepcopy(model)
    slow = {name: value.detach().double() for name, value in model.named_parameters()}
    for step in range(30):
        with torch.no_grad():
            for one in model.parameters():
                one.add_(torch.randn_like(one))
        decay = decay_at(step, 0.9)
        update_average(average, model, decay)
        for name, value in model.named_parameters():
            slow[name] = decay * slow[name] + (1 - decay) * value.detach().double()
    for name, value in average.named_parameters():
        torch.testing.assert_close(value.double(), slow[name], rtol=1e-5, atol=1e-6)
    assert decay_at(0, 0.9) < decay_at(5, 0.9) < decay_at(10**6, 0.9) == 0.9


def test_only_matrices_decay():
    objective = Pretraining(MSGFM(ENCODER), ObjectiveConfig())
    shrinking, plain = (group["params"] for group in decay_groups(objective, 0.1))
    assert len(shrinking) + len(plain) == len(list(objective.parameters()))
    ids = {id(one) for one in shrinking}
    names = {name for name, one in objective.named_parameters() if id(one) in ids}
    assert names
    assert not [name for name in names if "bias" in name or "norm" in name]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"warmup": 9}, {"ema": 1.0}, {"count_power": 2.0}, {"clip": 0.0}]
)
def test_a_field_out_of_range_is_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        recipe(**wrong)


def test_differences_see_fields_that_one_side_lacks():
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == ["a.c: None, now 2"]


def test_tensorboard_gets_the_same_steps(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package, when it is imported
        accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator"
        ).EventAccumulator
    log = MetricsLog(tmp_path, 0)
    log.write([{"step": i, "plan": "rgb>rgb", "reconstruction": 1.0 / (i + 1)} for i in range(3)])
    log.close()
    events = accumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("reconstruction/rgb>rgb")] == [0, 1, 2]


class Mapped(Generated):
    """Colour images of which one class of cover is bright and the other is dark; 1 in 8 unknown."""

    def draw(self, sensors, n, rng):
        drawn = super().draw(sensors, n, rng)
        if sensors != ("rgb",):
            return drawn
        bright = rng.random((n, 1, 1)) < 0.5
        cover = np.broadcast_to(bright, (n, self.side, self.side)).astype(np.int8)
        drawn["arrays"]["rgb"] *= np.where(bright, 0.9, 0.3)[:, None]
        unknown = rng.random(cover.shape) < 1 / 8
        return {**drawn, "maps": {"cover": np.where(unknown, -1, cover)}}


def painting(classes=2, share=0.7, **training):
    maps = {"cover": classes} if classes else {}
    return replace(recipe(**training), objective=ObjectiveConfig(maps=share), maps=maps)


def test_a_map_is_painted_where_there_is_one_and_learned(tmp_path):
    given = painting(steps=60, batch=8)
    pretrain(given, Mapped(rgb=40, s2_sar=20), tmp_path, options=RunOptions(**QUIET))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    costs = [row["reconstruction"] for row in rows if row["plan"] == "rgb>cover"]
    assert len(costs) > 10
    assert not any(">cover" in row["plan"] for row in rows if not row["plan"].startswith("rgb"))
    assert costs[0] > 0.6  # two classes, one guess: log 2
    assert np.mean(costs[-3:]) < 0.4, costs
    assert MSGFM.from_pretrained(tmp_path / "weights").maps == {"cover": 2}


def test_maps_that_do_not_fit_the_recipe_are_refused():
    for classes, share in ((0, 0.5), (2, 0.0)):
        with pytest.raises(ConfigError, match="are needed together"):
            painting(classes, share)
    with pytest.raises(ConfigError, match="map cover holds class 1, but the recipe has 1"):
        draw(Mapped(rgb=40), painting(1), 0)
