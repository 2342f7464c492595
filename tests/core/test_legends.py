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
    assert legends.legend("igbp").values == tuple(range(17))
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


def test_a_class_of_a_csv_is_about_its_concept_else_its_name_else_nothing(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "value,name,title,color,concept\n"
        "3,Wald,Wald,006400,tree\n"
        "1,crop,Anything,f096ff,\n"
        "2,x2,Salt marsh,00ffff,\n"
        "7,clc311,Laubwald,00aa00,\n"
        "9,Sonstiges,Sonstiges,999999,\n"
        "8,bare,Bare,bbbbbb,none\n"
    )
    mine = legends.legend_from_csv(path)
    assert mine.concepts == ("tree", "crop", "wetland", "tree", "", "")
    assert dict(mine.classes[3].shares) == dict(legends.legend("corine").classes[22].shares)
    path.write_text("value,name,title,color,concept\n1,a,A,000000,forest\n")
    with pytest.raises(LegendMismatchError, match=r"one of tree, shrub.*got forest"):
        legends.legend_from_csv(path)


def test_a_legend_of_the_same_names_is_believed_alike(tmp_path):
    for name in ("worldcover", "dynamicworld", "corine", "esri", "igbp"):
        known = legends.legend(name)
        rows = [f"{i + 1},{c.name},{c.name},{c.color}" for i, c in enumerate(known.classes)]
        path = tmp_path / f"my_{name}.csv"
        path.write_text("\n".join(["value,name,title,color", *reversed(rows)]))
        mine = legends.legend_from_csv(path)
        for source in NAMES:
            one, other = legends.crosswalk(source, known), legends.crosswalk(source, mine)
            order = [mine.index(one) for one in known.names]
            np.testing.assert_allclose(one.matrix, other.matrix[:, order])
            np.testing.assert_allclose(one.confidence, other.confidence)
