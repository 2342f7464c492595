from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from glocal.core.result import Displacement, frozen, log_normalise, relative_entropy

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
    entropy = relative_entropy(log_normalise(log_p))
    assert (entropy >= -1e-9).all()
    assert (entropy <= 1 + 1e-9).all()
    vacuous = log_normalise(np.zeros_like(log_p))
    np.testing.assert_allclose(relative_entropy(vacuous), 1)


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
