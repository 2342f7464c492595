from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from glocal.core.result import Categorical, Displacement, Normal, frozen, log_normalise

logs = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-700, 700)
)


@given(logs, st.floats(-100, 100))
def test_normalising_gives_distributions_and_forgets_constants(log_p, constant):
    out = log_normalise(log_p)
    np.testing.assert_allclose(np.exp(out).sum(axis=-1), 1)
    np.testing.assert_allclose(log_normalise(log_p + constant), out, atol=1e-9)
    np.testing.assert_allclose(log_normalise(out), out, atol=1e-9)
    assert log_normalise(log_p.astype(np.float32)).dtype == np.float32


@given(logs)
def test_entropy_lies_between_certainty_and_ignorance(log_p):
    one = Categorical.normalised(log_p)
    entropy = one.entropy()
    assert (entropy >= -1e-9).all()
    assert (entropy <= np.log(log_p.shape[-1]) + 1e-9).all()
    vacuous = Categorical.vacuous(log_p.shape[:-1], log_p.shape[-1])
    np.testing.assert_allclose(vacuous.entropy(), np.log(log_p.shape[-1]))


@pytest.mark.parametrize("wrong", [[[0.0, 0.0]], [[np.nan, 0.0]], [[0.0]]])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(ValueError, match="Categorical"):
        Categorical(log_p=np.array(wrong))


def test_quantities_need_an_uncertainty():
    mean = np.zeros(3)
    assert Normal(mean=mean, std=np.ones(3), unit="m").unit == "m"
    for std in (np.zeros(3), np.full(3, np.nan), np.ones(2)):
        with pytest.raises(ValueError, match="Normal"):
            Normal(mean=mean, std=std, unit="m")


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.1, 20), st.floats(0.1, 20))
def test_a_shift_is_significant_beyond_three_uncertainties(dy, dx, sy, sx):
    shift = Displacement(dy=dy, dx=dx, covariance=((sy**2, 0.0), (0.0, sx**2)))
    assert shift.significant == ((dy / sy) ** 2 + (dx / sx) ** 2 > 11.8)


@pytest.mark.parametrize(
    ("dy", "covariance"),
    [
        (np.nan, ((1.0, 0.0), (0.0, 1.0))),
        (0.0, ((1.0, 0.5), (0.0, 1.0))),
        (0.0, ((1.0, 2.0), (2.0, 1.0))),
        (0.0, ((np.nan, 0.0), (0.0, 1.0))),
    ],
)
def test_shifts_are_checked(dy, covariance):
    with pytest.raises(ValueError, match="Displacement"):
        Displacement(dy=dy, dx=0.0, covariance=covariance)


def test_frozen_arrays_can_not_be_written():
    view = frozen(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
