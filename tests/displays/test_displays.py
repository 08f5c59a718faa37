"""The displays: they compute what scikit-learn computes, and draw all of it."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import (
    TASKS,
    WEIGHT,
    X,
    Y,
    every_depth,
    every_task,
    fitted_state,
    small,
)
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    LossCurveDisplay,
    LossSurfaceDisplay,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
)

pytestmark = pytest.mark.usefixtures("no_window")

y = Y[:, 0]
LABELS = TASKS["two classes"][1]


def recorded(cls, targets, **params):
    """Return a fitted estimator and its trajectory."""
    recorder = WeightTrajectory()
    model = small(cls, **params).set_callbacks(recorder).fit(X, targets)
    return model, recorder.trajectories_[0]


def surface(*args, **params):
    return LossSurfaceDisplay.from_estimator(*args, grid_resolution=5, **params)


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


# Loss curves


@pytest.mark.parametrize(
    ("x", "curve"), [("step", "step_curve_"), ("time", "time_curve_"), ("epoch", None)]
)
def test_a_curve_is_that_of_the_estimator(x, curve):
    """The points of the line are the fitted attributes."""
    model = small(MiniBatchRegressor).fit(X, y)
    [line] = LossCurveDisplay.from_estimator(model, x=x).lines_

    assert line.get_xdata().tolist() == (getattr(model, curve) if curve else [1, 2, 3])
    assert line.get_ydata().tolist() == model.loss_curve_


def test_steps_and_times_go_on_with_training():
    """Partial fits and warm starts add to both; a copy has its own."""
    model = small(MiniBatchRegressor, warm_start=True).fit(X, y).partial_fit(X, y)
    model.fit(X, y)

    assert model.step_curve_ == [8 * n for n in range(1, 8)]
    assert model.step_curve_[-1] == model.t_
    assert len(model.time_curve_) == 7
    assert all(np.diff([0.0, *model.time_curve_]) > 0)


def test_several_curves_are_named_by_what_differs():
    """A pipeline's last step and a search's best estimator count."""
    one = make_pipeline(StandardScaler(), small(MiniBatchRegressor, lr=0.01)).fit(X, y)
    grid = {"lr": [0.1]}
    other = GridSearchCV(small(MiniBatchRegressor), grid, cv=KFold(2)).fit(X, y)
    display = LossCurveDisplay.from_estimator([one, other])
    named = LossCurveDisplay.from_estimator([one, other], names=["slow", "fast"])

    assert texts(display.ax_.get_legend()) == ["lr=0.01", "lr=0.1"]
    assert texts(named.ax_.get_legend()) == ["slow", "fast"]
    assert named.lines_[1].get_ydata().tolist() == other.best_estimator_.loss_curve_


def test_validation_is_dashed_in_the_same_colour():
    """Only for the estimators that have it; the legend says it once."""
    models = [small(MiniBatchRegressor, lr=lr).fit(X, y) for lr in (0.01, 0.1)]
    models[1].validation_loss_curve_ = [2 * loss for loss in models[1].loss_curve_]
    display = LossCurveDisplay.from_estimator(models)
    none, dashed = display.validation_lines_

    assert none is None
    assert dashed.get_ydata().tolist() == models[1].validation_loss_curve_
    assert dashed.get_color() == display.lines_[1].get_color()
    assert (display.lines_[1].get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    legend = ["lr=0.01", "lr=0.1", "training, with penalty", "unseen rows, without"]
    assert texts(display.ax_.get_legend()) == legend


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([5, 0.4], "log"), ([5, 1], "linear"), ([5, 0], "linear"), ([5, -1], "linear")],
)
def test_the_scale_is_logarithmic_where_that_helps(losses, scale):
    """Losses above zero that span more than a decade; an argument overrules it."""
    display = LossCurveDisplay(x=[np.arange(2)], losses=[np.array(losses)])

    assert display.plot().ax_.get_yscale() == scale
    assert display.plot(log_scale=False).ax_.get_yscale() == "linear"


def searched(grid=None):
    """Return a small search over lr, fitted."""
    search = VectorizedGridSearchCV(
        small(MiniBatchRegressor), grid or {"lr": [0.1, 1.0], "alpha": [0]}, cv=2
    )
    return search.fit(X, y)


def test_candidates_of_a_search_have_a_mean_and_a_band():
    """A split that stopped earlier, or ends in NaN, counts with its last loss."""
    search = searched()
    search.loss_curves_ = [[[4, 2, 0], [6, 4]], [[3.0, np.nan], [5.0, 1.0]]]
    display = LossCurveDisplay.from_search(search)
    first, second = (line.get_ydata().tolist() for line in display.lines_)
    corners = display.bands_[0].get_paths()[0].vertices

    assert (first, second) == ([5, 3, 2], [4, 2])
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0, 6)
    names = ["lr=0.1", "lr=1.0"]
    best = names.pop(search.best_index_)
    assert texts(display.ax_.get_legend()) == [f"best: {best}", *names]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_the_curves_of_a_search_are_those_of_its_fits():
    """The mean over the splits of what each fit tells; one that fails has none."""
    search = searched({"lr": [0.1, -1.0, 1.0]})
    display = LossCurveDisplay.from_search(search)
    apart = [
        [
            small(MiniBatchRegressor, lr=lr).fit(X[rows], y[rows]).loss_curve_
            for rows, _ in KFold(2).split(X)
        ]
        for lr in (0.1, 1.0)
    ]

    for line, curves in zip(display.lines_, apart, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.mean(curves, axis=0))
    assert sorted(display.names) == ["lr=0.1", "lr=1.0"]


def test_a_candidate_that_diverged_leaves_the_others_to_be_read():
    """Its curve goes on beyond the upper edge."""
    curves = [np.array([1.0, 0.5, 0.3]), np.array([1.0, 0.6, 0.4])]
    diverged = np.array([1.0, 1e50, 1e200])
    x = [np.arange(1, 4)] * 3
    display = LossCurveDisplay(x=x, losses=[*curves, diverged]).plot()
    assert display.ax_.get_ylim()[1] < 100
    assert LossCurveDisplay(x=x[:2], losses=curves).plot().ax_.get_ylim()[1] < 1.2


def test_many_curves_are_told_apart_by_colour():
    """No two of them have the same."""
    curves = [np.ones(2)] * 12
    display = LossCurveDisplay(x=curves, losses=curves).plot()

    assert len({tuple(line.get_color()) for line in display.lines_}) == 12


def test_the_epoch_whose_weights_were_kept_is_marked():
    """The dot lies on the held-out curve; the start of training has none."""
    fitted = [small(MiniBatchRegressor).fit(X, y, X_val=X, y_val=y) for _ in "abc"]
    fitted[0].best_iter_, fitted[1].best_iter_ = 2, 0
    display = LossCurveDisplay.from_estimator(fitted, x="step")
    dot, start, none = display.kept_

    place = fitted[0].step_curve_[1], fitted[0].validation_loss_curve_[1]
    assert dot.get_xydata().tolist() == [list(place)]
    assert (start, none) == (None, None)
    assert texts(display.ax_.get_legend())[-1] == "weights kept"


def test_the_legend_says_which_curve_has_the_penalty():
    """So it is of one fit; without held-out rows, the axis says what is drawn."""
    model = small(MiniBatchRegressor).fit(X, y)
    alone = LossCurveDisplay.from_estimator(model)
    both = LossCurveDisplay.from_estimator(model.fit(X, y, X_val=X, y_val=y))

    assert alone.ax_.get_legend() is None
    assert alone.ax_.get_ylabel() == "training objective"
    assert both.ax_.get_ylabel() == "loss"
    legend = ["training, with penalty", "unseen rows, without"]
    assert texts(both.ax_.get_legend()) == legend


def drawn(spaces, **options):
    """Return the display of a search in a pipeline, and the search."""
    model = make_pipeline(StandardScaler(), small(MiniBatchRegressor))
    pre = "minibatchregressor__"
    grid = {f"{pre}{name}": values for name, values in spaces.items()}
    search = VectorizedGridSearchCV(model, grid, cv=2).fit(X, y)
    return LossCurveDisplay.from_search(search, **options), search


def test_many_candidates_are_coloured_by_what_differs():
    """A bar tells the parameter; the best lies on top, and alone has a name."""
    rates = np.logspace(-3, -1, 12).tolist()
    display, search = drawn({"lr": rates})
    best = display.lines_[search.best_index_]
    norm = display.colorbar_.norm

    assert display.colorbar_.ax.get_ylabel() == "lr"
    assert (norm.vmin, norm.vmax) == (rates[0], rates[-1])
    assert norm(rates[6]) == pytest.approx(6 / 11)  # on a log scale
    assert len({line.get_color() for line in display.lines_}) == 12
    assert best.get_zorder() > max(
        line.get_zorder() for line in display.lines_ if line is not best
    )
    [name] = texts(display.ax_.get_legend())
    assert name == f"best: lr={rates[search.best_index_]:.3g}"
    assert len(display.bands_) == 1


def test_candidates_that_differ_in_more_are_coloured_by_score():
    """The worst share one colour, so that one bad score does not hide the others."""
    display, search = drawn({"lr": [1e-3, 1e-2, 0.1], "alpha": [0.1, 0.2, 0.3, 0.4]})
    scores = search.cv_results_["mean_test_score"]

    assert display.colorbar_.ax.get_ylabel() == "mean test score"
    assert display.colorbar_.norm.vmax == scores.max()
    assert display.colorbar_.norm.vmin == np.quantile(scores, 0.1)


def test_colours_tell_what_they_are_asked_to():
    """Numbers by a bar, other values by the legend; a whole name is known as well."""
    space = {"optimizer": ["sgd", "adam"], "lr": [0.1, 0.2], "batch_size": [8, None]}
    by_number, search = drawn(space, color_by="lr")
    by_word = LossCurveDisplay.from_search(
        search, color_by="minibatchregressor__optimizer"
    )
    by_none = LossCurveDisplay.from_search(search, color_by="batch_size")

    assert by_number.colorbar_.ax.get_ylabel() == "lr"
    assert by_word.colorbar_ is None
    assert texts(by_word.ax_.get_legend())[:2] == ["sgd", "adam"]
    assert len({line.get_color() for line in by_word.lines_}) == 2
    assert "0.8" in {line.get_color() for line in by_none.lines_}  # of None
    with pytest.raises(
        ValueError, match=r"color_by must be one of .*'lr', 'optimizer'"
    ):
        LossCurveDisplay.from_search(search, color_by="l_r")


def test_names_are_short_where_that_is_enough():
    """Names of steps are left out, unless two of them have such a parameter."""
    display, _ = drawn({"lr": [0.1, 0.2], "optimizer": ["sgd"]})
    assert set(display.names) == {"lr=0.1", "lr=0.2"}
    steps = [("a", StandardScaler()), ("b", StandardScaler())]
    model = Pipeline([*steps, ("model", small(MiniBatchRegressor))])
    grid = [{"a__with_mean": [True], "b__with_mean": [False]}, {"model__lr": [0.1]}]
    search = VectorizedGridSearchCV(model, grid, cv=2).fit(X, y)
    names = LossCurveDisplay.from_search(search).names
    assert names == ["a__with_mean=True, b__with_mean=False", "lr=0.1"]


def test_a_legend_of_many_lies_beside_the_curves():
    """It does where the figure makes room for it."""
    display, _ = drawn({"lr": np.linspace(0.01, 0.1, 8).tolist()})
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend().get_window_extent()
    assert legend.x0 > display.ax_.get_window_extent().x1
    assert len(texts(display.ax_.get_legend())) == 8


def test_a_single_candidate_needs_no_name():
    """There is nothing that it differs from."""
    display, _ = drawn({"lr": [0.1]})
    assert display.ax_.get_legend() is None
    assert (len(display.lines_), len(display.bands_)) == (1, 1)


def test_a_short_log_scale_has_few_and_plain_ticks():
    """Powers of ten beside each other would crowd the axis."""
    losses = np.array([2.0, 0.1])
    ax = LossCurveDisplay(x=[np.arange(2)], losses=[losses]).plot().ax_
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_yticklabels(minor=False)]
    assert {"0.1", "0.2", "0.5", "1", "2"} <= set(labels)
    assert not any(label.get_text() for label in ax.get_yticklabels(minor=True))


def test_curves_say_what_they_need():
    """Neither fitted, nor counted in steps, nor recorded: each has its sentence."""
    model = small(MiniBatchRegressor)
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(model)
    with pytest.raises(ValueError, match="needs an estimator with loss_curve_"):
        LossCurveDisplay.from_estimator(LinearRegression().fit(X, y))
    with pytest.raises(ValueError, match="x must be one of 'epoch', 'step', 'time'"):
        LossCurveDisplay.from_estimator(model.fit(X, y), x="epochs")
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_search(VectorizedGridSearchCV(model, {}))
    with pytest.raises(ValueError, match="use VectorizedGridSearchCV"):
        LossCurveDisplay.from_search(GridSearchCV(model, {}, cv=2).fit(X, y))


# The loss surface


def metric_objective(model, targets, coef, intercept, weight=None):
    """Return the objective of other weights by scikit-learn's metrics."""
    z = X @ coef.reshape(-1, X.shape[1]).T + intercept
    if isinstance(model, MiniBatchRegressor):
        outputs = targets.reshape(len(X), -1)
        loss = outputs.shape[1] * mean_squared_error(outputs, z, sample_weight=weight)
        loss /= 2
    else:
        z = z if z.shape[1] > 1 else np.hstack([0 * z, z])
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss = log_loss(targets, p, sample_weight=weight, labels=model.classes_)
    lasso, ridge = model.l1_ratio, (1 - model.l1_ratio) / 2
    penalty = lasso * np.abs(coef).sum() + ridge * np.square(coef).sum()
    return loss + model.alpha * penalty


every_weight = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "each"])


@pytest.mark.parametrize("coefficients", [(0, 2), (3, 1)])
@every_weight
@every_task
def test_the_surface_is_the_objective(cls, y, coefficients, weight):
    """Every point is the loss of those two weights, penalty included."""
    assert_surface_is_the_objective(cls, y, coefficients, weight)


@every_weight
@pytest.mark.parametrize("task", ["regression", "two classes"])
def test_the_surface_over_the_intercept_is_the_objective(task, weight):
    """It has a place among the coefficients, and no penalty."""
    assert_surface_is_the_objective(*TASKS[task], (-1, "intercept"), weight)


def assert_surface_is_the_objective(cls, y, coefficients, weight):
    model = small(cls, alpha=0.1, l1_ratio=0.3).fit(X, y, sample_weight=weight)
    before = fitted_state(model)
    display = surface(
        model, X, y, coefficients=coefficients, sample_weight=weight, span=[(-1, 2)] * 2
    )
    expected = np.empty((5, 5))
    for place in np.ndindex(5, 5):
        coef, intercept = model.coef_.copy(), model.intercept_.copy()
        for name, xx in zip(coefficients, (display.xx0, display.xx1), strict=True):
            if name == "intercept":
                intercept[0] = xx[place]
            else:
                coef.flat[name] = xx[place]
        expected[place] = metric_objective(model, y, coef, intercept, weight)

    assert (display.xx0.min(), display.xx0.max()) == (-1, 2)
    np.testing.assert_allclose(display.loss, expected, rtol=1e-12)
    assert fitted_state(model) == before


def test_the_lowest_point_of_least_squares_is_scikit_learns():
    """On a grid centred at its solution, the centre is the lowest, and its value is."""
    reference = LinearRegression().fit(X, y)
    model = small(MiniBatchRegressor, alpha=0.0).fit(X, y)
    model.coef_, model.intercept_ = reference.coef_, np.array([reference.intercept_])
    loss = surface(model, X, y, coefficients=(1, "intercept")).loss

    assert np.unravel_index(loss.argmin(), loss.shape) == (2, 2)
    expected = mean_squared_error(y, reference.predict(X)) / 2
    assert loss.min() == pytest.approx(expected, rel=1e-12)


@every_depth
@every_task
def test_the_plane_of_a_path_holds_its_end(cls, y, hidden):
    """There the loss is that of the fitted model, and the way ends in the middle."""
    model, path = recorded(cls, y, hidden_layer_sizes=hidden, alpha=0.0)
    span = [(-1, 1), (-1, 1)]
    display = surface(model, X, y, trajectory=path, span=span)
    if cls is MiniBatchClassifier:
        expected = log_loss(y, model.predict_proba(X))
    else:
        outputs = y.reshape(len(X), -1).shape[1]
        expected = outputs * mean_squared_error(y, model.predict(X)) / 2

    assert display.fitted == (0.0, 0.0)
    assert not display.path[-1].any()
    assert display.loss[2, 2] == pytest.approx(expected, rel=1e-10)


def test_the_plane_of_a_path_is_that_of_principal_components():
    """Coordinates and explained variance are those of scikit-learn's PCA."""
    model, path = recorded(MiniBatchClassifier, LABELS, hidden_layer_sizes=(5,))
    display = surface(model, X, LABELS, trajectory=path)
    pca = PCA(2).fit(path.weights)
    expected = pca.transform(path.weights)
    expected -= expected[-1]
    shares = [
        f"({share:.1%} of the variance)" for share in pca.explained_variance_ratio_
    ]

    np.testing.assert_allclose(np.abs(display.path), np.abs(expected), atol=1e-10)
    assert (display.path[0] >= 0).all()
    assert display.ax_.get_xlabel() == f"first principal component {shares[0]}"
    assert display.ax_.get_ylabel() == f"second principal component {shares[1]}"


def test_the_loss_along_a_path_in_its_plane_is_that_on_the_way():
    """A model of two weights moves in the plane, so both losses are the same."""
    recorder = WeightTrajectory()
    params = {"fit_intercept": False, "batch_size": None, "optimizer": "sgd", "lr": 0.1}
    model = small(MiniBatchRegressor, **params).set_callbacks(recorder)
    model.fit(X[:, :2], y)
    path = recorder.trajectories_[0]
    for plane in ({"coefficients": (0, 1)}, {}):
        shown = surface(model, X[:, :2], y, trajectory=path, **plane)
        start = [(float(place), float(place) + 1) for place in shown.path[0]]
        near = surface(model, X[:, :2], y, trajectory=path, span=start, **plane)

        assert near.loss[0, 0] == pytest.approx(model.loss_curve_[0], rel=1e-12)


def test_a_path_is_drawn_from_start_to_end():
    """Marks, legend and axes are there; the picture surrounds the path."""
    model, path = recorded(MiniBatchRegressor, y)
    display = surface(model, X, y, trajectory=path, coefficients=(0, 1))
    line = display.path_line_.get_xydata()

    assert np.array_equal(line, path.weights[:, :2])
    assert np.array_equal(display.start_.get_xydata(), line[:1])
    assert np.array_equal(display.end_.get_xydata(), [model.coef_[:2]])
    assert texts(display.ax_.get_legend()) == ["path", "start", "end"]
    assert display.ax_.get_xlabel() == "weight of feature 0"
    for axis, xx in enumerate((display.xx0, display.xx1)):
        assert xx.min() < line[:, axis].min()
        assert line[:, axis].max() < xx.max()


@pytest.mark.parametrize("plot_method", ["contourf", "contour", "pcolormesh"])
def test_a_surface_is_drawn_in_three_ways(plot_method):
    """Also on axes that are there already, and again from the display itself."""
    model = small(MiniBatchRegressor).fit(X, y)
    _, ax = plt.subplots()
    display = surface(model, X, y, plot_method=plot_method, ax=ax)

    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.surface_.axes is ax
    assert display.path_line_ is None
    assert display.plot(colorbar=False).figure_ is not ax.figure


def test_a_pipeline_transforms_the_data_of_its_surface():
    """The weights are those that see scaled features, named as the last step does."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaler = StandardScaler().set_output(transform="pandas")
    pipeline = make_pipeline(scaler, small(MiniBatchRegressor)).fit(frame, y)
    scaled = scaler.transform(frame)
    display = surface(pipeline, frame, y)

    assert np.array_equal(display.loss, surface(pipeline[-1], scaled, y).loss)
    assert display.ax_.get_ylabel() == "weight of b"


def test_chunks_of_a_grid_make_the_same_surface(monkeypatch):
    """How many models are computed at once does not matter."""
    model, path = recorded(MiniBatchClassifier, LABELS, hidden_layer_sizes=(5,))
    whole = surface(model, X, LABELS, trajectory=path).loss
    monkeypatch.setattr("skgd._estimators.landscape._NUMBERS_AT_ONCE", 7 * len(X) * 5)
    apart = surface(model, X, LABELS, trajectory=path).loss

    np.testing.assert_allclose(apart, whole, rtol=1e-12)


def test_a_flat_surface_is_drawn():
    """One level is enough where all losses are the same."""
    model = small(MiniBatchRegressor, alpha=0.0).fit(np.zeros((9, 2)), np.zeros(9))
    display = surface(model, np.zeros((9, 2)), np.zeros(9))

    assert not display.loss.any()


def test_a_surface_says_what_it_needs():
    """Each wrong argument has its sentence."""
    network, path = recorded(MiniBatchRegressor, y, hidden_layer_sizes=(3,))
    linear = small(MiniBatchRegressor).fit(X, y)
    with pytest.raises(ValueError, match="pass the trajectory"):
        surface(network, X, y)
    with pytest.raises(ValueError, match="the 5 weights of this model"):
        surface(linear, X, y, trajectory=path)
    with pytest.raises(ValueError, match="coefficients must be ints below 4"):
        surface(linear, X, y, coefficients=(0, 4))
    recorder = WeightTrajectory()
    with pytest.raises(
        TypeError, match=r"has recorded 0 fits; pass .trajectories_\[-1\]"
    ):
        surface(linear, X, y, trajectory=recorder)
    several = small(MiniBatchRegressor).fit(X, Y)
    with pytest.raises(ValueError, match="'intercept' of a model with one output"):
        surface(several, X, Y, coefficients=(0, "intercept"))
    with pytest.raises(ValueError, match="two different ones"):
        surface(linear, X, y, coefficients=(3, -1))
    with pytest.raises(ValueError, match=r"y must hold 1 targets, as in fit\. Got 2"):
        surface(linear, X, Y)
    with pytest.raises(TypeError, match="Got LinearRegression"):
        surface(LinearRegression().fit(X, y), X, y)
    with pytest.raises(ValueError, match="plot_method must be one of"):
        surface(linear, X, y, plot_method="surface")
    with pytest.raises(NotFittedError):
        surface(MiniBatchRegressor(), X, y)


# Without matplotlib


def test_drawing_without_matplotlib_names_the_extra(monkeypatch):
    """The package imports without it, and says what to install when asked to draw."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    model = small(MiniBatchRegressor).fit(X, y)
    with pytest.raises(ImportError, match=r'pip install "skgd\[plot\]"'):
        LossCurveDisplay.from_estimator(model)
    with pytest.raises(ImportError, match=r'pip install "skgd\[plot\]"'):
        surface(model, X, y)


def test_curves_of_a_fit_that_was_validated_in_part_are_drawn():
    """Epochs without held-out rows are gaps in the validation curve."""
    model = small(MiniBatchRegressor, warm_start=True).fit(X, y)
    model.fit(X, y, X_val=X, y_val=y)
    model.partial_fit(X, y)
    curve = np.array(model.validation_loss_curve_)
    assert len(curve) == len(model.loss_curve_) == 7
    np.testing.assert_array_equal(np.isnan(curve), [True] * 3 + [False] * 3 + [True])
    display = LossCurveDisplay.from_estimator(model)
    assert len(display.lines_) == 1


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"]])
def test_names_are_one_for_each(names):
    """Too few or too many are refused, and so is nothing to draw."""
    model = small(MiniBatchRegressor).fit(X, y)
    with pytest.raises(ValueError, match=r"names must be 2, one for each. Got"):
        LossCurveDisplay.from_estimator([model, model], names=names)
    with pytest.raises(ValueError, match="Got an empty list"):
        LossCurveDisplay.from_estimator([])


def test_epochs_are_whole_numbers():
    """There is no tick between two epochs."""
    model = small(MiniBatchRegressor, max_iter=4).fit(X, y)
    ticks = LossCurveDisplay.from_estimator(model).ax_.get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))
