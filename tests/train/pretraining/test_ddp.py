"""Two processes against one, on the same global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glocal.errors import ConfigError
from glocal.train.pretraining.metrics_log import curve
from glocal.train.pretraining.pretrain import RunOptions, pretrain
from msgfm import ObjectiveConfig
from tests.train.pools import ENCODER, pool, recipe

ROOT = Path(__file__).parents[3]
QUIET = RunOptions(tensorboard=False, flush_every=3)

# The router's balance loss and its limit of tokens are of one process; without them nothing is.
SHARED = recipe(
    encoder=replace(ENCODER, capacity=float(ENCODER.experts)),
    objective=ObjectiveConfig(balance=0.0),
)
DEFAULT = recipe()

CODE = """
import sys
from pathlib import Path
from glocal.train.pretraining.pretrain import pretrain
from tests.train.pools import pool
from tests.train.pretraining.test_ddp import DEFAULT, QUIET, SHARED
for name, recipe in (("shared", SHARED), ("default", DEFAULT)):
    pretrain(recipe, pool(), Path(sys.argv[1]) / name, options=QUIET)
"""


def processes(code, world, *args):
    """Start what ``torchrun`` would, without its supervisor."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **{"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"},
        **{"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"},
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *args],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    started = processes(CODE, 2, str(out))
    said = [one.communicate()[0] for one in started]
    assert [one.returncode for one in started] == [0, 0], "\n".join(said)
    return out


def columns(out):
    rows = curve(out)
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    return [row["plan"] for row in rows], {n: np.array([row[n] for row in rows]) for n in names}


def test_two_processes_follow_the_losses_of_one(two, tmp_path):
    pretrain(SHARED, pool(), tmp_path, options=QUIET)
    (plans, one), (plans_two, both) = columns(tmp_path), columns(two / "shared")
    assert plans == plans_two
    assert len({plan.partition(">")[0] for plan in plans}) > 1
    np.testing.assert_array_equal(one["values"], both["values"])
    for name in ("total", "reconstruction", "z", "norm", "rate"):
        np.testing.assert_allclose(both[name], one[name], rtol=2e-4, err_msg=name)


def test_routers_of_two_processes_differ_a_little(two, tmp_path):
    pretrain(DEFAULT, pool(), tmp_path, options=QUIET)
    (_, one), (_, both) = columns(tmp_path), columns(two / "default")
    np.testing.assert_array_equal(one["values"], both["values"])
    np.testing.assert_allclose(both["reconstruction"], one["reconstruction"], rtol=0.02)


def test_one_process_goes_on_where_two_stopped(two, tmp_path):
    done = pretrain(SHARED, pool(), two / "shared", options=QUIET)
    assert (done.step, done.why) == (SHARED.training.steps, "done")


def test_a_batch_that_can_not_be_shared_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="batch=4 must be a multiple of the 3 processes"):
        pretrain(recipe(), pool(), tmp_path, options=QUIET)
