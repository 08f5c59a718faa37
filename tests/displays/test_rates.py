"""The learning-rate range test shows what fits at each rate come to."""

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, WEIGHT, X, Y, fitted_state, small
from scipy.sparse import csr_array
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    Blocks,
    LearningRateDisplay,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
)

pytestmark = pytest.mark.usefixtures("no_window")

y = Y[:, 0]
LABELS = TASKS["three classes"][1]
range_test = LearningRateDisplay.from_estimator


def fit_at(model, lr, rows, targets, **weights):
    """Return an estimator fitted as the range test says."""
    model.set_params(lr=lr, max_iter=5, tol=None, early_stopping=False)
    return model.fit(rows, targets, **weights)


def test_the_losses_are_those_of_fits_at_each_rate():
    """Of numbers, weighted and with a penalty; inf is what a fit refuses."""
    rates = [1e-3, 0.1, 1.0, 100.0]
    model = small(MiniBatchRegressor, optimizer="sgd", alpha=0.1, l1_ratio=0.3)
    display = range_test(model, X, y, lrs=rates[::-1], sample_weight=WEIGHT)
    assert display.lrs.tolist() == rates
    for lr, loss in zip(rates[:3], display.losses, strict=False):
        fitted = fit_at(model, lr, X, y, sample_weight=WEIGHT)
        error = mean_squared_error(y, fitted.predict(X), sample_weight=WEIGHT)
        w = fitted.coef_
        penalty = 0.35 * np.square(w).sum() + 0.3 * np.abs(w).sum()
        assert loss == pytest.approx(error / 2 + 0.1 * penalty, rel=1e-8)
    assert display.losses[3] == np.inf
    with pytest.raises(ValueError, match="Training diverged"):
        fit_at(model, rates[3], X, y, sample_weight=WEIGHT)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_a_pipeline_is_fitted_before_its_last_step(engine):
    """Of classes, in a network, in a pipeline of pipelines that are not fitted."""
    network = small(
        MiniBatchClassifier, hidden_layer_sizes=(5,), alpha=0.0, engine=engine
    )
    inner = Pipeline([("network", network)])
    model = make_pipeline(StandardScaler(), inner)
    frame = pd.DataFrame(100 * X, columns=list("abcd"))
    display = range_test(model, frame, LABELS, lrs=[0.01, 0.1])
    scaled = StandardScaler().fit_transform(100 * X)
    for lr, loss in zip((0.01, 0.1), display.losses, strict=True):
        fitted = fit_at(network, lr, scaled, LABELS)
        expected = log_loss(LABELS, fitted.predict_proba(scaled))
        assert loss == pytest.approx(expected, rel=1e-8)
    assert not hasattr(model[0], "mean_")


def test_rows_may_be_sparse_and_wide():
    """What is wide for a step is evaluated, too."""
    rows = np.zeros((60, 5000))
    rows[:, [7, 1000, 2000, 4999]] = X
    rows = csr_array(rows)
    model = small(MiniBatchRegressor, alpha=0.0)
    display = range_test(model, rows, Y, lrs=[0.01, 0.1])
    fitted = fit_at(model, 0.1, rows, Y)
    expected = mean_squared_error(Y, fitted.predict(rows))  # of two outputs, halved
    assert display.losses[1] == pytest.approx(expected, rel=1e-8)


def test_the_estimator_is_left_as_it_is():
    """A fitted one stays fitted, with its callbacks, which see nothing."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor, early_stopping=True, scoring="r2", max_time=60)
    model.set_callbacks(recorder).fit(X, y)
    before, params = fitted_state(model), model.get_params()
    range_test(model, X, y, lrs=[0.1])
    assert fitted_state(model) == before
    assert model.get_params() == params
    assert len(recorder.trajectories_) == 1


def test_the_lowest_and_the_diverged_are_marked():
    """The one at its loss, the others at the upper edge, whatever the losses are."""
    lrs = np.array([0.1, 0.2, 0.3, 0.4])
    losses = np.array([3.0, 1.0, np.inf, np.inf])
    display = LearningRateDisplay(lrs=lrs, losses=losses, max_iter=5).plot()
    assert display.best_lr_ == 0.2
    assert display.best_.get_xydata().tolist() == [[0.2, 1.0]]
    assert display.diverged_.get_xdata().tolist() == [0.3, 0.4]
    edge = display.diverged_.get_transform().transform([[0.3, 1.0]])[0, 1]
    assert edge == pytest.approx(display.ax_.get_window_extent().y1)
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["lowest, lr=0.2", "diverged"]
    assert display.ax_.get_xscale() == "log"
    none = LearningRateDisplay(lrs=lrs, losses=np.full(4, np.inf)).plot()
    assert (none.best_lr_, none.best_) == (None, None)


@pytest.mark.parametrize(
    ("losses", "scale", "top"),
    [
        ([2, 0.1, 1, 1e9], "log", 20),
        ([2, 0.1, 1, 3], "log", None),
        ([2, 1, 1.5, 1e9], "log", 20),
        ([2, 1, 1.5, 3], "linear", None),
        ([-2, -5, -3, 1e9], "linear", 16),
    ],
)
def test_high_losses_leave_the_others_to_be_read(losses, scale, top):
    """The axis ends ten times above what hardly any training comes to, and at them."""
    lrs = np.array([1e-3, 1e-2, 0.1, 1.0])
    display = LearningRateDisplay(lrs=lrs, losses=np.array(losses, float)).plot()
    assert display.ax_.get_yscale() == scale
    bottom, end = display.ax_.get_ylim()
    assert end == pytest.approx(top or 3, rel=0 if top else 0.2)
    assert min(losses) - 0.2 * (end - min(losses)) < bottom < min(losses)


def test_the_legend_hides_no_loss():
    """It stands above the axes."""
    ax = range_test(small(MiniBatchRegressor), X, y, lrs=[0.01, 0.1]).ax_
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1
    assert legend.y1 <= ax.figure.bbox.y1


def test_what_cannot_be_tested_is_refused():
    """Each has its sentence."""
    model = small(MiniBatchRegressor)
    for lrs in ([], [0.1, -1], [0.1, np.nan], [[0.1]], "fast", 0.1, [None]):
        with pytest.raises(ValueError, match=r"lrs must be a list of finite numbers"):
            range_test(model, X, y, lrs=lrs)
    sgd = small(MiniBatchRegressor, optimizer="sgd")
    with pytest.raises(ValueError, match=r"Got 3 from 1e.06 to 1e.08, and all div"):
        range_test(sgd, X, y, lrs=[1e6, 1e7, 1e8])
    with pytest.raises(ValueError, match="Got lr_schedule='optimal', which takes none"):
        range_test(small(MiniBatchRegressor, lr_schedule="optimal"), X, y)
    with pytest.raises(ValueError, match=r"'max_iter' parameter .* Got 0 instead"):
        range_test(model, X, y, max_iter=0)
    with pytest.raises(TypeError, match="Got VectorizedGridSearchCV"):
        range_test(VectorizedGridSearchCV(model, {}), X, y)
    with pytest.raises(TypeError, match="X must be rows in memory"):
        range_test(model, Blocks.from_iterables([lambda: [(X, y)]]), y)
    with pytest.raises(ValueError, match="X must hold numbers, a row for each"):
        range_test(model, None, y)
    with pytest.raises(ValueError, match="y must hold"):
        range_test(model, X, None)
    with pytest.raises(UserWarning, match="batch_size=61 is larger than the 60 rows"):
        range_test(small(MiniBatchRegressor, batch_size=61), X, y)
