"""Connected cells as polygons: they cover what they are made of, and nothing else."""

from __future__ import annotations

import numpy as np

from glocal.core.grid import cell_area_ha
from glocal.sources.patches import patches_of
from glocal.testing import grid

SIDE = 40
BOX = grid(SIDE, SIDE)


def test_patches_cover_their_cells_and_nothing_else() -> None:
    code = np.zeros((SIDE, SIDE), int)
    code[2:6, 2:6], code[10:12, 10], code[6:8, 6:8] = 2, 3, 2  # the last touches by a corner
    p = np.random.default_rng(0).random((SIDE, SIDE))
    found = patches_of(code, 3, BOX)
    assert found.code.tolist() == [2, 2]
    area_ha = found.size * cell_area_ha(BOX)
    np.testing.assert_allclose(area_ha, [0.16, 0.04])
    np.testing.assert_allclose([one.area / 1e4 for one in found.geometry], area_ha)
    np.testing.assert_allclose(found.mean(p), [p[2:6, 2:6].mean(), p[6:8, 6:8].mean()])
    nothing = patches_of(np.zeros((SIDE, SIDE), int), 1, BOX)
    assert len(nothing.code) == len(nothing.geometry) == len(nothing.mean(p)) == 0
