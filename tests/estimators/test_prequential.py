"""Test, then train: the rows of a stream are judged before they are learned."""

import pickle

import numpy as np
import pytest
from conftest import (
    N_ROWS,
    TASKS,
    WEIGHT,
    X,
    Y,
    every_depth,
    every_engine,
    every_task,
    fitted_state,
    on_both_engines,
    small,
)
from covering import every_pair
from scipy import sparse
from sklearn.metrics import get_scorer, log_loss

from skgd import LossCurveDisplay, MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators import record

pytestmark = on_both_engines

CHUNKS = [slice(0, 20), slice(20, 27), slice(27, 50), slice(50, 60)]
three_classes = TASKS["three classes"][1]
TOLD = (
    "validation_loss_curve_",
    "validation_scores_",
    "running_loss_",
    "running_score_",
    "running_rows_",
)


def first_of(y):
    """Return what the first call is given beside rows and targets."""
    return {} if y.dtype.kind == "f" else {"classes": np.unique(y)}


def stream(model, y, rows=X, weight=WEIGHT):
    """Yield the model before each chunk, the chunk, and then learn it."""
    first = first_of(y)
    for chunk in CHUNKS:
        yield model, chunk
        model.partial_fit(rows[chunk], y[chunk], sample_weight=weight[chunk], **first)
        first = {}


SETTINGS = {
    "plain": {},
    "averaging": {"average": True, "lr": 0.1},
    "dropout": {"hidden_layer_sizes": (5,), "dropout": 0.4},
    "a penalty": {"alpha": 0.1},
}


@every_pair(
    pytest.mark.parametrize("rows", [X, sparse.csr_array(X)], ids=["dense", "sparse"]),
    pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS),
    every_task,
    every_engine,
)
def test_a_chunk_is_judged_by_the_model_before_it(cls, y, params, rows):
    """Its loss and score are scikit-learn's, of what that model predicts."""
    scoring = "r2" if cls is MiniBatchRegressor else "accuracy"
    model, losses, scores = small(cls, scoring=scoring, **params), [], []
    for before, chunk in stream(model, y, rows):
        if not hasattr(before, "t_"):  # nothing was learned
            losses.append(np.nan)
            scores.append(np.nan)
            continue
        weight = WEIGHT[chunk]
        scores.append(before.score(rows[chunk], y[chunk], weight))
        if cls is MiniBatchRegressor:
            errors = (before.predict(rows[chunk]) - y[chunk]) ** 2 / 2
            of_rows = errors.reshape(len(weight), -1).sum(1)
            losses.append(np.average(of_rows, weights=weight))
        else:
            p = before.predict_proba(rows[chunk])
            losses.append(
                log_loss(y[chunk], p, sample_weight=weight, labels=before.classes_)
            )
    np.testing.assert_allclose(model.validation_loss_curve_, losses, rtol=1e-9)
    np.testing.assert_allclose(model.validation_scores_, scores, rtol=1e-9)


@every_depth
@every_task
def test_of_a_single_batch_it_is_the_loss_before_the_step(cls, y, hidden):
    """What a step begins with is what the rows cost before it."""
    model = small(cls, hidden_layer_sizes=hidden, batch_size=None, scoring="loss")
    model.set_params(record_batch_loss=True)
    for _ in stream(model, y, weight=np.ones(N_ROWS)):
        pass
    losses = model.batch_loss_curve_[1:]
    np.testing.assert_allclose(model.validation_loss_curve_[1:], losses, rtol=1e-9)
    assert not hasattr(model, "validation_scores_")
    assert not hasattr(model, "running_score_")


@every_pair(
    pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS),
    every_task,
    every_engine,
)
def test_to_test_first_changes_nothing(cls, y, params):
    """All but what is told of it is as without, to the bit, through a pickle too."""
    scoring = "r2" if cls is MiniBatchRegressor else "accuracy"
    plain, tested = small(cls, **params), small(cls, scoring=scoring, **params)
    resumed = pickle.loads(pickle.dumps(tested))
    for chunk in CHUNKS:
        given = X[chunk], y[chunk], *first_of(y).values()
        plain.partial_fit(*given)
        tested.partial_fit(*given)
        resumed = pickle.loads(pickle.dumps(resumed)).partial_fit(*given)
    for name in TOLD:  # NaN is not itself
        told = vars(tested).pop(name), vars(resumed).pop(name)
        np.testing.assert_array_equal(*told)
    assert fitted_state(tested) == fitted_state(plain) == fitted_state(resumed)


def test_the_running_figures_fade():
    """A row counts 1% less with every call; a score that is no number is left out."""
    model = small(MiniBatchRegressor, scoring="r2", batch_size=None)
    y, totals = Y[:, 0], []
    for _ in range(3):
        for _, chunk in stream(model, y):
            totals.append(WEIGHT[chunk].sum())
    n_calls = len(totals)
    weights = np.array(totals[1:]) * 0.99 ** np.arange(n_calls - 2, -1, -1)
    losses = np.average(model.validation_loss_curve_[1:], weights=weights)
    scores = np.average(model.validation_scores_[1:], weights=weights)
    assert model.running_rows_ == pytest.approx(weights.sum())
    assert model.running_loss_ == pytest.approx(losses)
    assert model.running_score_ == pytest.approx(scores)
    with pytest.warns(UserWarning, match="R.2 score is not well-defined"):
        model.partial_fit(X[:1], y[:1])
    assert np.isnan(model.validation_scores_[-1])
    assert model.running_score_ == pytest.approx(scores)
    assert model.running_loss_ != pytest.approx(losses)


def test_a_drift_is_seen():
    """Where the labels change places, the score falls, and then comes back."""
    rng = np.random.default_rng(0)
    model = MiniBatchClassifier(scoring="accuracy", random_state=0, lr=0.1)
    for call in range(120):
        rows = rng.normal(size=(32, 4))
        model.partial_fit(rows, (rows[:, 0] > 0) ^ (call >= 60), [False, True])
    scores = np.array(model.validation_scores_)
    assert scores[50:60].mean() > 0.9
    assert scores[60] < 0.2
    assert scores[110:].mean() > 0.9


def test_what_is_told_is_bounded(monkeypatch):
    """All curves of a stream lose their beginning together."""
    monkeypatch.setattr(record, "_KEPT_OF_A_STREAM", 5)
    model = small(MiniBatchClassifier)
    lengths = []
    for call in range(40):
        if call == 7:
            model.set_params(scoring="accuracy")
        model.partial_fit(X[:9], three_classes[:9], [-1, 0, 1])
        if call >= 7:
            curves = (model.validation_loss_curve_, model.validation_scores_)
            lengths += [len(curve) for curve in curves]
            assert {len(model.loss_curve_), *lengths[-2:]} == {len(model.step_curve_)}
    assert max(lengths) == 10


@pytest.mark.parametrize("scoring", ["neg_log_loss", get_scorer("f1_macro")], ids=str)
def test_any_scorer_judges(scoring):
    """By its name or as it is, of labels or of probabilities."""
    model = small(MiniBatchClassifier, scoring=scoring)
    scorer, scores = get_scorer(scoring), []
    for before, chunk in stream(model, three_classes, weight=np.ones(N_ROWS)):
        if hasattr(before, "t_"):
            scores.append(scorer(before, X[chunk], three_classes[chunk]))
    assert model.validation_scores_[1:] == pytest.approx(scores)


def test_a_scorer_that_fails_leaves_the_stream():
    """Its error comes out, and the chunk is not learned."""

    def refuse(model, rows, y):
        raise ValueError("not these")

    model = small(MiniBatchClassifier, scoring=refuse)
    model.partial_fit(X, three_classes, [-1, 0, 1])  # there is nothing to judge yet
    before = fitted_state(model)
    with pytest.raises(ValueError, match="In scoring: not these"):
        model.partial_fit(X, three_classes)
    assert fitted_state(model) == before


def test_rows_of_new_classes_are_judged_too():
    """A model that does not know them yet has all of them wrong."""
    model = small(MiniBatchClassifier, scoring="accuracy")
    known = three_classes < 1
    for _ in range(5):
        model.partial_fit(X[known], three_classes[known], [-1, 0])
    before = model.predict(X)
    model.partial_fit(X, three_classes, [-1, 0, 1])
    assert model.validation_scores_[-1] == (before == three_classes).mean()
    assert np.isfinite(model.validation_loss_curve_[-1])


def test_rows_that_do_not_count_are_not_judged():
    """A call without a step has no entry."""
    model = small(MiniBatchRegressor, scoring="r2").partial_fit(X, Y)
    model.partial_fit(X, Y, 0).partial_fit(X, Y)
    assert len(model.validation_scores_) == len(model.loss_curve_) == 2


def test_a_stream_after_a_fit_is_judged_from_the_first_call():
    """Epochs before have no entry but NaN, and no score of a stream is the best."""
    model = small(MiniBatchRegressor, scoring="r2").fit(X, Y)
    score = model.score(X, Y)
    model.partial_fit(X, Y)
    assert np.isnan(model.validation_scores_[:3]).all()
    assert model.validation_scores_[3] == pytest.approx(score)
    assert not hasattr(model, "best_validation_score_")


def test_the_loss_is_drawn():
    """What is judged before it is learned is dashed beside what is minimised."""
    model = small(MiniBatchRegressor, scoring="r2")
    for _ in stream(model, Y):
        pass
    display = LossCurveDisplay.from_estimator(model, x="step")
    [line] = display.validation_lines_
    np.testing.assert_array_equal(line.get_ydata(), model.validation_loss_curve_)
