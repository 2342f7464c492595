"""Known legends and the crosswalks between them."""

from __future__ import annotations

import numpy as np
import pytest

from glocal.core import legends
from glocal.core.legend import ClassDef, Legend
from glocal.errors import LegendMismatchError, SourceUnavailableError

NAMES = ("worldcover", "dynamicworld", "corine", "esri", "igbp", "scl")


def test_all_legends_are_there():
    assert legends.legend_names() == NAMES
    assert legends.legend("corine").values == tuple(range(1, 45))
    assert legends.legend("worldcover").values == (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
    assert legends.raster_codes("igbp") == tuple(range(17))
    with pytest.raises(LegendMismatchError, match=r"no legend 'worldcovr'.*known: worldcover"):
        legends.legend("worldcovr")


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("source", NAMES)
def test_every_crosswalk_is_stochastic(source, target):
    one = legends.crosswalk(source, legends.legend(target))
    assert one.symbols == legends.legend(source).names
    np.testing.assert_allclose(one.matrix.sum(axis=1), 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_legend_means_itself(name):
    own = legends.legend(name)
    np.testing.assert_array_equal(legends.crosswalk(name, own).matrix, np.eye(len(own)))


def test_shares_sum_to_one_or_are_absent():
    for name in NAMES:
        for row in legends._entry(name)["classes"]:
            assert not row["shares"] or sum(row["shares"].values()) == pytest.approx(1)
            assert 0 <= row["confidence"] <= 1


def test_mixed_class_and_silent_codes():
    crosswalk = legends.crosswalk("igbp", legends.legend("worldcover"))
    row = dict(zip(crosswalk.target.names, crosswalk.matrix[14], strict=True))
    assert crosswalk.symbols[14] == "cropland_mosaic"
    assert (row["crop"], row["grass"], row["tree"]) == (0.5, 0.25, 0.25)
    assert legends.code_symbols("igbp")[255] == 0
    assert legends.code_symbols("igbp")[17] == legends.code_symbols("igbp")[0] == 1
    assert legends.code_symbols("scl")[9] == 0


def test_a_target_without_the_class_says_nothing():
    target = legends.legend("worldcover").subset(["tree", "water"])
    crosswalk = legends.crosswalk("worldcover", target)
    built = crosswalk.symbols.index("built")
    assert crosswalk.confidence[built] == 0
    np.testing.assert_allclose(crosswalk.matrix[built], 0.5)
    corine = legends.crosswalk("corine", target)
    urban = corine.symbols.index("clc111")
    assert 0 < corine.confidence[urban] < 0.1  # only its few trees are left


def test_own_target_by_class_names():
    target = Legend(
        name="mine",
        classes=(
            ClassDef(value=1, name="tree", title="Wald", color="006400"),
            ClassDef(value=10, name="water", title="Wasser", color="0000ff"),
        ),
    )
    crosswalk = legends.crosswalk("worldcover", target)
    assert crosswalk.matrix[0].tolist() == [1, 0]  # its code 10 is tree, ours is water
    assert crosswalk.matrix[7].tolist() == [0, 1]


def test_roots_show_one_lineage():
    assert legends.roots("worldcover", 2020) & legends.roots("worldcover", 2021)
    assert not legends.roots("igbp", 2019) & legends.roots("corine", 2018)
    assert "2021" in legends.attribution("worldcover", 2021)


def test_csv_legend(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text(
        "value,name,title,color,tree,grass\n1,park,Park,#00ff00,0.5,0.5\n2,tree,Tree,006400,,\n"
        "3,odd,Odd,ffffff,,\n"
    )
    target = legends.legend("worldcover").subset(["tree", "grass"])
    assert legends.legend_from_csv(path).names == ("park", "tree", "odd")
    crosswalk = legends.crosswalk_from_csv(path, target)
    assert crosswalk.matrix.tolist() == [[0.5, 0.5], [1, 0], [0.5, 0.5]]
    assert crosswalk.confidence.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "lacks"), ("value,name,title,color\nx,n,t,ffffff\n", "invalid literal")],
)
def test_bad_csv_legend(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(LegendMismatchError, match=message):
        legends.legend_from_csv(tmp_path / "bad.csv")
    with pytest.raises(SourceUnavailableError, match="gone"):
        legends.legend_from_csv(tmp_path / "gone.csv")
