"""ONNX graphs: the runtime predicts what the estimators do, but for rounding."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import X, Y, small
from scipy.sparse import csr_array
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedRandomizedSearchCV,
    register_onnx,
    to_onnx,
)
from skgd._equations import activations, losses
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS

onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

from skgd._onnx import equations  # noqa: E402

# What rounding may come to, for numbers of about 1.
ROUNDING = {"float32": 1e-6, "float64": 1e-12}

X32 = X.astype(np.float32)
LABELS = {
    "two words": np.where(Y[:, 0] > 3, "yes", "no"),
    "three words": np.array(["a", "bb", "ccc"])[np.digitize(Y[:, 0], [2, 4])],
    "numbers": np.digitize(Y[:, 0], [2, 4]) * 5 - 5,
    "bools": Y[:, 0] > 3,
    "floats": np.digitize(Y[:, 0], [2, 4]).astype(float),
    "several": (Y > [3, 1]).astype(int),
}


def run(graph, X):
    """Return what the runtime makes of an array or a frame, by name."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    if isinstance(X, pd.DataFrame):
        fed = {name: X[[name]].to_numpy() for name in X}
    else:
        fed = {"X": X}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def dtype_of(X):
    """Return the precision of a graph for such rows."""
    dtypes = list(X.dtypes) if isinstance(X, pd.DataFrame) else [X.dtype]
    return "float64" if np.float64 in dtypes else "float32"


def assert_alike(model, X, *, graph=None, rounding=None):
    """Hold the graph of a model against its methods."""
    given = run(graph or to_onnx(model, X), X)
    dtype = dtype_of(X)
    error = ROUNDING[rounding or dtype]
    if "label" in given:
        np.testing.assert_array_equal(given["label"], model.predict(X))
    if "variable" in given:
        [numbers] = given.values()
        expected = model.predict(X)
        expected = expected.reshape(len(expected), -1)
    elif "probabilities" in given:
        numbers, expected = given["probabilities"], model.predict_proba(X)
    else:
        numbers, expected = given["scores"], model.decision_function(X)
        if expected.ndim == 1:
            expected = np.column_stack([-expected, expected])
    assert numbers.dtype == dtype
    np.testing.assert_allclose(numbers, expected, rtol=error, atol=error)


def network(cls, **params):
    return small(cls, hidden_layer_sizes=(5, 3), **params)


# Every entry of the tables


def test_every_activation_and_loss_has_its_nodes():
    """What the engine computes, a graph can say."""
    assert equations.ACTIVATIONS.keys() == activations.ACTIVATIONS.keys()
    assert equations.INVERSE_LINKS.keys() == losses.LOSSES.keys()
    for name, link in equations.INVERSE_LINKS.items():
        assert (link is None) is (losses.loss_named(name).inverse_link is None), name
    joint = {
        n
        for n in losses.LOSSES
        if losses.loss_named(n).joint != losses.mean_over_models
    }
    assert equations.JOINTS.keys() == joint


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "hinge"])
@pytest.mark.parametrize("kind", ["two words", "three words", "several"])
def test_an_ensemble_is_the_mean_of_its_models(kind, loss):
    """Labels, and what they go by, in float64; so of numbers."""
    model = network(MiniBatchClassifier, loss=loss, n_models=3, lr=0.1)
    assert_alike(model.fit(X, LABELS[kind]), X)
    if loss != "hinge":
        register_onnx()
        options = {id(model): {"raw_scores": True, "zipmap": False}}
        graph = skl2onnx.to_onnx(model, X, options=options)
        scores = run(graph, X)["probabilities"]
        expected = model.decision_function(X).reshape(len(X), -1)
        np.testing.assert_allclose(scores[:, -expected.shape[1] :], expected, rtol=1e-7)
    numbers = network(MiniBatchRegressor, loss="poisson", n_models=3)
    assert_alike(numbers.fit(X, np.exp(Y / 4)), X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", equations.ACTIVATIONS)
def test_every_activation_is_ours(activation, dtype):
    """A network predicts the same, in both precisions; erf is float32's in both."""
    model = network(MiniBatchRegressor, activation=activation, negative_slope=0.3)
    model.fit(X, Y[:, 0])
    rounding = "float32" if activation == "gelu" else dtype
    assert_alike(model, X.astype(dtype), rounding=rounding)


@pytest.mark.parametrize("activation", equations.ACTIVATIONS)
def test_activations_are_right_far_from_zero(activation):
    """Nothing overflows, and nothing is lost, where a unit's sum is large."""
    far = np.array([[-1e4], [-90], [-20], [-1e-3], [0], [20], [90], [1e4]], np.float32)
    model = small(MiniBatchRegressor, hidden_layer_sizes=1, activation=activation)
    model.fit(X32[:, :1], Y[:, 0])
    model.coefs_ = [np.ones((1, 1), np.float32)] * 2
    model.intercepts_ = [np.zeros(1, np.float32)] * 2
    assert_alike(model, far)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES_OF_NUMBERS)
def test_every_loss_of_numbers_has_its_link(loss, dtype):
    """Predictions are in the units of y, of one target and of several."""
    positive = np.exp(Y / 4)
    for y in (positive[:, 0], positive):
        model = small(MiniBatchRegressor, loss=loss).fit(X, y)
        assert_alike(model, X.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_models", [1, 2])
def test_several_quantiles_do_not_cross_either(n_models, dtype):
    """A graph sorts them as the model does, and each model of an ensemble its own."""
    params = {"loss": "quantile", "quantile": [0.5, 0.95, 0.05], "n_models": n_models}
    model = network(MiniBatchRegressor, **params).fit(X, Y[:, 0])
    rows = 3 * X.astype(dtype)
    if n_models == 1:
        raw = model._raw_predictions(rows)[0].numpy()
        assert (raw[0] > raw[1]).any()
    assert_alike(model, rows)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("loss", LOSSES_OF_CLASSES)
def test_every_loss_of_classes_tells_what_it_has(loss, kind):
    """Labels of every kind, with probabilities where there are some, else scores."""
    model = small(MiniBatchClassifier, loss=loss).fit(X, LABELS[kind])
    names = [output.name for output in to_onnx(model, X32).graph.output]
    known = "probabilities" if hasattr(model, "predict_proba") else "scores"
    assert names == ["label", known]
    assert_alike(model, X32)


def test_classes_of_which_none_is_likely_are_alike():
    """As in modified_huber's own probabilities, where all outputs are below -1."""
    model = small(MiniBatchClassifier, loss="modified_huber")
    model.fit(X32, LABELS["three words"])
    model.intercept_ = np.full(3, -1e3, np.float32)
    assert (model.predict_proba(X32) == np.float32(1 / 3)).all()
    assert_alike(model, X32)


@pytest.mark.parametrize("params", [{"normalize_y": False}, {"fit_intercept": False}])
def test_what_a_fit_leaves_is_what_a_graph_has(params):
    """Whatever scale targets were trained on, and whatever mean of the weights."""
    for y in (Y * 1000 + 5000, Y[:, 0]):
        model = network(MiniBatchRegressor, average=True, lr=1e-3, **params)
        assert_alike(model.fit(X, y), X)


# What skl2onnx makes of them


def pipeline(model):
    return make_pipeline(StandardScaler(), model)


def of_skl2onnx(model, X, **options):
    """Return the graph that skl2onnx makes by itself."""
    register_onnx()
    return skl2onnx.to_onnx(model, X, options=options or None)


@pytest.mark.parametrize("wrapped", [lambda model: model, pipeline])
def test_skl2onnx_converts_them(wrapped):
    """With its own defaults and options, alone and in a Pipeline."""
    regressor = wrapped(network(MiniBatchRegressor)).fit(X, Y)
    assert_alike(regressor, X32, graph=of_skl2onnx(regressor, X32))
    classifier = wrapped(network(MiniBatchClassifier)).fit(X, LABELS["two words"])
    graph = of_skl2onnx(classifier, X32, zipmap=False)
    assert_alike(classifier, X32, graph=graph)
    by_class = run(of_skl2onnx(classifier, X32), X32)["output_probability"]
    expected = pd.DataFrame(by_class)[["no", "yes"]]
    np.testing.assert_allclose(expected, classifier.predict_proba(X32), atol=1e-6)


def test_the_options_of_classifiers():
    """Labels may be numbers, outputs may be columns, scores may be raw."""
    model = small(MiniBatchClassifier).fit(X, LABELS["two words"])
    numbers = run(of_skl2onnx(model, X32, zipmap=False, nocl=True), X32)["label"]
    np.testing.assert_array_equal(model.classes_[numbers], model.predict(X32))
    columns = run(of_skl2onnx(model, X32, zipmap="columns"), X32)
    p = np.column_stack([columns["sno"], columns["syes"]])
    np.testing.assert_allclose(p, model.predict_proba(X32), atol=1e-6)
    graph = of_skl2onnx(model, X32, zipmap=False, raw_scores=True)
    z = run(graph, X32)["probabilities"]
    np.testing.assert_allclose(z[:, 1], model.decision_function(X32), atol=1e-6)
    graph = of_skl2onnx(model, X32, zipmap=False, output_class_labels=True)
    assert list(run(graph, X32)["class_labels"]) == ["no", "yes"]


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_what_combines_models_may_hold_them(loss):
    """A calibrated classifier asks for scores, a stack for probabilities."""
    model = small(MiniBatchClassifier, loss=loss)
    for labels in (LABELS["two words"], LABELS["three words"]):
        calibrated = CalibratedClassifierCV(model, cv=2).fit(X, labels)
        register_onnx()
        assert_alike(calibrated, X32)
    last = small(MiniBatchClassifier)
    stack = StackingClassifier([("one", model), ("other", last)], last, cv=2)
    assert_alike(stack.fit(X, labels), X32)


@pytest.mark.parametrize(
    "search", [GridSearchCV, VectorizedGridSearchCV, VectorizedRandomizedSearchCV]
)
def test_a_search_is_its_best_estimator(search):
    """By either function, of a model, of a Pipeline, and in one."""
    labels = LABELS["three words"]
    model = small(MiniBatchClassifier)
    some = {"n_iter": 2} if search is VectorizedRandomizedSearchCV else {}
    inside = {"minibatchclassifier__alpha": [1e-3, 1e-1]}
    alone = search(model, {"alpha": [1e-3, 1e-1]}, cv=2, **some)
    for tried in (
        alone,
        search(pipeline(model), inside, cv=2, **some),
        pipeline(alone),
    ):
        tried.fit(X, labels)
        assert_alike(tried, X32)
        assert_alike(tried, X32, graph=of_skl2onnx(tried, X32, zipmap=False))


# What X may be


FRAME = pd.DataFrame(X32, columns=list("abcd"))


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.assign(a=np.arange(len(X)) % 7, b=X[:, 1] > 0),
        FRAME.assign(a=np.arange(len(X)) % 7, b=X[:, 1]),
    ],
)
def test_a_frame_has_an_input_for_every_column(frame):
    """Columns of several kinds are computed with in the finest precision of them."""
    model = network(MiniBatchRegressor).fit(frame, Y)
    assert [one.name for one in to_onnx(model, frame).graph.input] == list("abcd")
    assert_alike(model, frame)
    assert_alike(small(MiniBatchClassifier).fit(frame, LABELS["bools"]), frame)


def test_words_are_encoded_by_a_pipeline():
    """A ColumnTransformer takes its columns by name, in any order."""
    frame = FRAME.assign(word=np.array(["x", "y", "zz"])[np.arange(len(X)) % 3])
    steps = (OneHotEncoder(), ["word"]), (StandardScaler(), list("abcd"))
    model = make_pipeline(make_column_transformer(*steps), small(MiniBatchRegressor))
    model.fit(frame, Y)
    assert_alike(model, frame)
    assert_alike(model, frame[["word", *"dcba"]])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_rows_may_be_whole_numbers(dtype):
    """They are computed with in float32."""
    rows = np.abs(X * 3).astype(dtype)
    assert_alike(small(MiniBatchClassifier).fit(rows, LABELS["bools"]), rows)


def test_an_older_runtime_has_older_operators():
    """A graph keeps to the version that is asked for."""
    model = network(MiniBatchRegressor, activation="gelu").fit(X, Y)
    graph = to_onnx(model, X32, target_opset=15)
    assert [one.version for one in graph.opset_import if not one.domain] == [15]
    assert_alike(model, X32, graph=graph)


# What is refused

FITTED = small(MiniBatchRegressor).fit(X, Y)


@pytest.mark.parametrize(
    ("model", "rows", "words"),
    [
        (FITTED, csr_array(X), "must be an array .* Got a sparse matrix, .*toarray"),
        (FITTED, X.tolist(), r"must be an array or .* Got builtins\.list"),
        (FITTED, pl.DataFrame(X), r"must be an array or .* Got polars\.DataFrame"),
        (FITTED, X.astype(np.float16), "must be float32, .* Got float16; convert X"),
        (FITTED, X[:, :3], "X must have 4 columns, as MiniBatchRegressor .* Got 3"),
        (FITTED, X.astype(str), "must be numbers .* Got text; encode it in a Pipeline"),
        (
            small(MiniBatchRegressor).fit(FRAME, Y),
            FRAME[list("bacd")],
            "Got 'b' in place of 'a'; use X",
        ),
        (
            small(MiniBatchClassifier).fit(X, LABELS["bools"].astype("u8") + 2**63),
            X,
            "must be text, bools or ints of 64 bits, .* Got 9223372036854775808",
        ),
        (
            VectorizedGridSearchCV(FITTED, {"alpha": [0.1]}, refit=False).fit(X, Y),
            X,
            "must have a best estimator .* with refit=False",
        ),
    ],
)
def test_what_no_graph_can_be_made_of_is_refused(model, rows, words):
    """A sentence says what must be, what came, and what to do."""
    with pytest.raises((TypeError, ValueError), match=words):
        to_onnx(model, rows)


@pytest.mark.parametrize("model", [MiniBatchRegressor(), MiniBatchClassifier()])
def test_a_model_that_is_not_fitted_is_refused(model):
    """By either function, alone and in a Pipeline."""
    for one in (model, pipeline(model)):
        with pytest.raises(NotFittedError):
            to_onnx(one, X)
    with pytest.raises(NotFittedError):
        of_skl2onnx(model, X)


def test_without_skl2onnx_the_extra_is_named(monkeypatch):
    """The package imports without it, and says what to install when it is asked for."""
    monkeypatch.setitem(sys.modules, "skgd._onnx.converters", None)
    for asked in (register_onnx, lambda: to_onnx(FITTED, X)):
        with pytest.raises(ImportError, match=r'pip install "skgd\[onnx\]"'):
            asked()
