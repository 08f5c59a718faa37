"""The scores of a search stand over its parameters as cv_results_ has them."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import X, Y, small
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    MiniBatchRegressor,
    SearchDisplay,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
)

pytestmark = pytest.mark.usefixtures("no_window")

y = Y[:, 0]
ALPHAS, NEIGHBOURS = [1e-3, 0.1, 10.0], [2, 4, 8]
draw = SearchDisplay.from_search


def searched(model, grid, **options):
    return GridSearchCV(model, grid, cv=2, **options).fit(X, y)


def ridges(**more):
    return searched(Ridge(), {"alpha": ALPHAS, **more})


def table_of(search, score="mean_test_score"):
    """Return parameters and score of all candidates, as a frame."""
    params = pd.DataFrame(search.cv_results_["params"])
    return params.assign(score=search.cv_results_[score])


def labels_of(axis):
    return [label.get_text() for label in axis.get_majorticklabels()]


def test_a_grid_of_two_parameters_is_a_heat_map():
    """Its cells are the table of the scores; a star marks the winner."""
    grid = {"n_neighbors": [8, 2, 4], "weights": ["uniform", "distance"]}
    search = searched(KNeighborsRegressor(), grid)
    display = draw(search, x="weights", y="n_neighbors")
    expected = table_of(search).pivot_table("score", "n_neighbors", "weights")
    ax = display.ax_
    assert labels_of(ax.xaxis) == ["uniform", "distance"]
    assert labels_of(ax.yaxis) == ["2", "4", "8"]
    np.testing.assert_array_equal(
        display.artist_.get_array(), expected[["uniform", "distance"]]
    )
    [[column, row]] = display.best_.get_xydata().astype(int)
    best = search.best_params_
    assert labels_of(ax.xaxis)[column] == best["weights"]
    assert labels_of(ax.yaxis)[row] == str(best["n_neighbors"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weights", "n_neighbors")
    assert display.colorbar_.ax.get_ylabel() == "mean test score"


def test_a_single_parameter_has_error_bars():
    """They are the standard deviation over the splits, on a log scale where it fits."""
    search = ridges()
    display = draw(search)
    line, _, [bars] = display.artist_.lines
    results = search.cv_results_
    np.testing.assert_array_equal(
        line.get_xydata(), np.transpose([ALPHAS, results["mean_test_score"]])
    )
    half = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    np.testing.assert_allclose(half, results["std_test_score"])
    assert line.get_linestyle() == "-"
    assert display.ax_.get_xscale() == "log"
    assert display.colorbar_ is None


@pytest.mark.parametrize("axes", [{"x": "alpha"}, {"x": "alpha", "y": "positive"}])
def test_the_best_over_all_other_parameters_counts(axes):
    """So says the label; error bars are those of the best."""
    search = ridges(fit_intercept=[True, False], positive=[True, False])
    display = draw(search, **axes)
    table = table_of(search)
    best = table.loc[table.groupby(list(axes.values()))["score"].idxmax()]
    frame = pd.DataFrame({"alpha": display.x, "score": display.scores})
    if display.y is not None:
        frame["positive"] = display.y
    pd.testing.assert_frame_equal(
        frame.sort_values(list(axes.values()), ignore_index=True),
        best[frame.columns].reset_index(drop=True),
    )
    deviation = search.cv_results_["std_test_score"][best.index]
    assert sorted(display.errors) == sorted(deviation)
    others = "fit_intercept" if "y" in axes else "fit_intercept, positive"
    assert display.score_label == f"mean test score,\nbest over {others}"


def test_drawn_candidates_are_points():
    """Each at its values, in the colour of its score, on scales that suit the draws."""
    space = {
        "elasticnet__alpha": np.geomspace(1e-4, 1, 30).tolist(),
        "elasticnet__l1_ratio": np.linspace(0.05, 1, 30).tolist(),
    }
    model = make_pipeline(StandardScaler(), ElasticNet())
    search = RandomizedSearchCV(model, space, n_iter=20, cv=2, random_state=0)
    display = draw(search.fit(X, y), x="alpha", y="l1_ratio")
    table = table_of(search)
    np.testing.assert_array_equal(display.artist_.get_offsets(), table[list(space)])
    np.testing.assert_array_equal(display.artist_.get_array(), table["score"])
    ax = display.ax_
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    best = [search.best_params_[name] for name in space]
    assert display.best_.get_xydata().tolist() == [best]
    [name] = [text.get_text() for text in ax.get_legend().get_texts()]
    assert name == f"best, {search.best_score_:.4g}"
    alone = draw(search, x="elasticnet__alpha")  # each differs in the other one, too
    assert alone.artist_.lines[0].get_linestyle() == "None"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1, 10, 100], "log"),
        ([16, 64, 256], "log"),
        ([1e-3, 3e-3, 1e-2, 3e-2], "log"),
        ([1, 10], "log"),
        ([1, 9], "linear"),
        (range(1, 11), "linear"),
        ([0, 1, 10, 100], "linear"),
        ([-100, -1], "linear"),
        ([5], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_values_are_spaced_so(values, scale):
    """Numbers above zero that span a decade, and lie more evenly on such a scale."""
    display = SearchDisplay(x=list(values), scores=np.arange(len(values))).plot()
    assert display.ax_.get_xscale() == scale


def test_what_has_no_score_is_marked():
    """Grey as a cell, a cross as a point, and never the best."""
    scores = np.array([0.3, np.nan, 0.1, 0.2])
    cells = SearchDisplay(x=[1, 1, 2, 2], y=[1, 2, 1, 2], scores=scores).plot()
    assert cells.artist_.get_array().mask.tolist() == [[False, False], [True, False]]
    assert cells.best_.get_xydata().tolist() == [[0, 0]]
    points = SearchDisplay(x=[1, 2, 3, 4], y=[1, 2, 3, 4], scores=scores).plot()
    assert points.failed_.get_xydata().tolist() == [[2, 2]]
    assert points.artist_.get_offsets().tolist() == [[1, 1], [3, 3], [4, 4]]
    bars = SearchDisplay(x=[1, 2, 3, 4], scores=scores, errors=scores).plot()
    assert bars.failed_.get_xdata().tolist() == [2]
    assert bars.artist_.lines[0].get_xdata().tolist() == [1, 3, 4]
    for display in (bars, SearchDisplay(x=[1], y=[1], scores=np.array([np.nan]))):
        display.plot().figure_.canvas.draw()
    assert display.best_ is None


def test_values_of_any_kind_have_a_place():
    """Numbers first and in order, then all others; NumPy's look like Python's."""
    sizes = [None, np.int64(64), (8, 8), 16, np.float32(0.5)]
    display = SearchDisplay(x=sizes, scores=np.arange(5.0)).plot()
    places = dict(enumerate(labels_of(display.ax_.xaxis)))
    assert places == {0: "0.5", 1: "16", 2: "64", 3: "None", 4: "(8, 8)"}
    points = display.artist_.lines[0].get_xydata().tolist()
    assert points == [[0, 4], [1, 3], [2, 1], [3, 0], [4, 2]]


def test_halving_shows_the_last_round_of_each_candidate():
    """The star is at the winner, which need not have the highest score of all."""
    grid = {"lr": [1e-3, 0.01, 0.1], "alpha": [0, 1e-3, 0.1]}
    search = VectorizedHalvingGridSearchCV(
        small(MiniBatchRegressor), grid, resource="max_iter", max_resources=9, cv=2
    ).fit(X, y)
    display = draw(search, x="lr", y="alpha")
    last = table_of(search).groupby(["alpha", "lr"])["score"].last().unstack()
    np.testing.assert_array_equal(display.artist_.get_array(), last)
    place = [grid[name].index(search.best_params_[name]) for name in grid]
    assert display.best_.get_xydata().tolist() == [place]
    assert display.score_label == "mean test score"


def test_what_cannot_be_drawn_is_refused():
    """Each has its sentence."""
    search = ridges(positive=[True, False])
    with pytest.raises(ValueError, match=r"one of 'alpha', 'positive'[.]"):
        draw(search, "alpha", "lr")
    with pytest.raises(ValueError, match="y must be another parameter than x"):
        draw(search, "alpha", "alpha")
    with pytest.raises(ValueError, match="x must be given with y"):
        draw(search, y="alpha")
    with pytest.raises(ValueError, match="candidates that differ in a parameter"):
        draw(searched(Ridge(), {"alpha": [1]}))
    with pytest.raises(NotFittedError):
        draw(GridSearchCV(Ridge(), {}))
    with pytest.raises(TypeError, match=r"must be a fitted search. Got Ridge\."):
        draw(Ridge().fit([[0], [1]], [0, 1]))


def test_another_score_has_another_best():
    """Of several scorers each can be drawn, and training scores as well."""
    scores = ["r2", "neg_median_absolute_error"]
    model, grid = KNeighborsRegressor(), {"n_neighbors": [1, 2, 3, 5, 8, 13]}
    options = {"scoring": scores, "refit": "r2", "return_train_score": True}
    search = searched(model, grid, **options)
    for score in ("mean_test_r2", f"mean_test_{scores[1]}", "mean_train_r2"):
        display = draw(search, score=score)
        best = table_of(search, score)["score"].idxmax()
        assert display.best_.get_xydata()[0, 0] == grid["n_neighbors"][best]
        assert display.ax_.get_ylabel() == score.replace("_", " ")
    said = "several scorers: one of 'mean_test_r2', 'mean.* pass score='mean_test_r2'"
    for score in ({}, {"score": "r2"}):
        with pytest.raises(ValueError, match=said):
            draw(search, **score)
    with pytest.raises(ValueError, match="score must be one of 'mean_test_score'"):
        draw(ridges(), score="mean_test_r2")


def test_candidates_without_a_parameter_are_left_out():
    """They have no place on its axis."""
    search = searched(Ridge(), [{"alpha": ALPHAS}, {"fit_intercept": [False]}])
    assert sorted(draw(search, x="alpha").x) == ALPHAS
    assert draw(search, x="fit_intercept").x == [False]


def test_searches_of_both_kinds_are_drawn_alike():
    """Ours have the same parameters and results as scikit-learn's."""
    grid = {"lr": [0.01, 0.1], "alpha": [1e-4, 0.1]}
    model = small(MiniBatchRegressor)
    ours = draw(VectorizedGridSearchCV(model, grid, cv=2).fit(X, y))
    theirs = draw(searched(model, grid))
    assert (ours.x, ours.y) == (theirs.x, theirs.y)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-8)


@pytest.mark.parametrize(
    ("size", "font", "word"),
    [((3, 2.4), 8, "squared_"), ((3, 2.4), 18, ""), ((8, 6), 18, "squared_")],
)
def test_labels_of_cells_have_room(size, font, word):
    """None lies on another, however large the letters are."""
    values = [f"{word}{n}" for n in range(25)]
    with mpl.rc_context({"font.size": font}):
        _, ax = plt.subplots(figsize=size, layout="constrained")
        SearchDisplay(x=values, y=values, scores=np.arange(25.0)).plot(ax)
        ax.figure.canvas.draw()
        line = font * ax.figure.dpi / 72
    for axis, up in ((ax.xaxis, 0), (ax.yaxis, 1)):
        labels = axis.get_majorticklabels()
        at = [one.get_transform().transform(one.get_position())[up] for one in labels]
        assert len(labels) > 2
        assert min(b - a for a, b in pairwise(at)) > line
