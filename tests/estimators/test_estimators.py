"""The two estimators: parameters, attributes, predictions, input, side effects."""

import ast
import inspect
import multiprocessing
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    N_FEATURES,
    N_ROWS,
    OPTIMIZERS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    contents,
    every_class,
    every_depth,
    every_optimizer,
    every_task,
    fitted_state,
    frozen,
    layers_of,
    small,
)
from covering import every_pair
from estimator_cases import (
    AS_THEY_ARE,
    loss_by_scikit_learn,
    three_classes,
    two_classes,
    y,
)
from scipy.special import log_expit, log_softmax
from sklearn import metrics
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgd._equations.optimizers
from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators.parameters import RULES

# scikit-learn's own checks


# The checks' data are often fewer rows than a batch, and their epochs few.
@pytest.mark.filterwarnings(
    "ignore:batch_size=32 is larger than:UserWarning",
    "ignore:Training stopped after max_iter:sklearn.exceptions.ConvergenceWarning",
)
@parametrize_with_checks(
    [
        MiniBatchRegressor(hidden_layer_sizes=(8,), max_iter=60),
        MiniBatchClassifier(hidden_layer_sizes=(8,), max_iter=60),
    ]
)
def test_scikit_learn_accepts_networks(estimator, check):
    """Every check passes; ``test_array_api`` has those of the default parameters."""
    check(estimator)


# Parameters and their documentation


def documented(cls, section):
    """Return the entries of a section of the docstring: name -> (type, text)."""
    text = inspect.getdoc(cls).split(f"{section}\n{'-' * len(section)}\n")[1]
    text = re.split(r"\n\n\S.*\n-+\n", text)[0]
    entries = re.findall(r"^(\w+) : (.*)\n((?:(?:    .*)?\n?)*)", text, re.MULTILINE)
    return {name: (kind, words) for name, kind, words in entries}


@every_class
def test_constructor_only_stores(cls):
    """What the constructor is given is kept as it is, unread, and nothing else is."""
    given = {name: object() for name in inspect.signature(cls).parameters}
    assert vars(cls(**given)) == given


@every_class
def test_clone_and_set_params_keep_every_parameter(cls):
    """A clone, and a set_params of all parameters, have those of the original."""
    given = {"hidden_layer_sizes": (3,), "lr": 0.5, "random_state": 1, "device": "cpu"}
    estimator = cls(**given)
    params = estimator.get_params()
    assert given.items() <= params.items()
    assert clone(estimator).get_params() == params
    assert cls().set_params(**params).get_params() == params


@every_class
def test_every_parameter_is_documented_with_its_default(cls):
    """The docstring names the parameters in order, each with the default it has."""
    documents = documented(cls, "Parameters")
    parameters = inspect.signature(cls).parameters
    assert list(documents) == list(parameters)
    for name, (kind, _) in documents.items():
        default = ast.literal_eval(kind.partition("default=")[2])
        assert default == parameters[name].default, name
        assert type(default) is type(parameters[name].default), name


def test_parameters_of_both_classes_are_documented_alike():
    """What both classes have is described by the same words, all but the loss."""
    documents = [
        documented(cls, "Parameters")
        for cls in (MiniBatchRegressor, MiniBatchClassifier)
    ]
    regressor, classifier = map(list, documents)
    only = {"delta", "quantile", "power", "normalize_y"}, {"class_weight"}
    assert [name for name in regressor if name not in only[0]] == [
        name for name in classifier if name not in only[1]
    ]
    of_each = {"loss", "l1_ratio", *only[0]}  # speak of each class's own losses
    for name in documents[0].keys() - of_each:
        assert documents[0][name] == documents[1][name], name


@every_class
def test_every_parameter_has_a_rule(cls):
    """The table of rules covers the parameters; the loss differs between classes."""
    assert {*RULES, "loss"} >= set(cls().get_params())


def test_every_rule_has_a_parameter():
    """No rule is left over from a parameter that is gone."""
    parameters = [
        cls().get_params() for cls in (MiniBatchRegressor, MiniBatchClassifier)
    ]
    assert {*RULES, "loss"} == {*parameters[0], *parameters[1]}


@every_task
@every_depth
def test_fitted_attributes_are_the_documented_ones(cls, y, hidden):
    """A fit on named columns, and a stream after it, leave what is listed, no more."""
    rows = pd.DataFrame(X, columns=list("abcd"))
    settings = {"record_batch_loss": True, "early_stopping": True}
    model = small(cls, hidden_layer_sizes=hidden, **settings).fit(rows, y)
    best = {"best_iter_": model.best_iter_}  # which a stream no longer has
    scoring = "r2" if cls is MiniBatchRegressor else "accuracy"
    model.set_params(early_stopping=False, scoring=scoring).partial_fit(rows, y)
    vars(model).update(best)
    others = {"coef_", "intercept_"} if hidden else {"coefs_", "intercepts_"}
    public = {k for k in vars(model) if k.endswith("_") and not k.startswith("_")}
    assert not hasattr(model, "estimators_")  # which an ensemble has, see there
    others |= {"estimators_"}
    assert public == documented(cls, "Attributes").keys() - others


def test_every_optimizer_is_tried_here():
    """The table of optimizers of these tests has every entry of the package's."""
    assert OPTIMIZERS.keys() == skgd._equations.optimizers.OPTIMIZERS.keys()


# Fitted attributes: shapes and types

LINEAR_SHAPES = [
    (MiniBatchRegressor, y, (N_FEATURES,), (1,)),
    (MiniBatchRegressor, y[:, np.newaxis], (1, N_FEATURES), (1,)),
    (MiniBatchRegressor, Y, (2, N_FEATURES), (2,)),
    (MiniBatchClassifier, two_classes, (1, N_FEATURES), (1,)),
    (MiniBatchClassifier, three_classes, (3, N_FEATURES), (3,)),
]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("cls", "y", "coef", "intercept"), LINEAR_SHAPES)
def test_linear_weights_have_the_shapes_of_scikit_learn(
    cls, y, coef, intercept, fit_intercept
):
    """coef_ and intercept_ have a row and a number for each target or score."""
    model = small(cls, fit_intercept=fit_intercept).fit(X, y)
    assert model.coef_.shape == coef
    assert model.intercept_.shape == intercept
    assert bool(model.intercept_.any()) is fit_intercept


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    ("cls", "y", "n_outputs"),
    [
        (MiniBatchRegressor, y, 1),
        (MiniBatchRegressor, Y, 2),
        (MiniBatchClassifier, two_classes, 1),
        (MiniBatchClassifier, three_classes, 3),
    ],
)
def test_network_weights_have_the_shapes_of_scikit_learn(
    cls, y, n_outputs, fit_intercept
):
    """coefs_ hold an array (units in, units out) for each layer, intercepts_ (out,)."""
    model = small(cls, hidden_layer_sizes=(5, 3), fit_intercept=fit_intercept)
    model.fit(X, y)
    assert [w.shape for w in model.coefs_] == [(N_FEATURES, 5), (5, 3), (3, n_outputs)]
    assert [bias.shape for bias in model.intercepts_] == [(5,), (3,), (n_outputs,)]
    assert any(bias.any() for bias in model.intercepts_) is fit_intercept


@every_task
def test_what_is_counted_is_python_numbers(cls, y):
    """Counts are int, the curve is a list of float, and its last entry is loss_."""
    model = small(cls).fit(X, y)
    assert [type(n) for n in (model.n_iter_, model.t_, model.n_features_in_)] == [
        int
    ] * 3
    assert (model.n_iter_, model.n_features_in_) == (3, N_FEATURES)
    assert [type(objective) for objective in model.loss_curve_] == [float] * 3
    assert model.loss_ == model.loss_curve_[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_task
@every_depth
def test_everything_is_in_the_precision_of_X(cls, y, hidden, dtype):
    """float32 stays float32 in weights, optimizer state and predictions."""
    rows = X.astype(dtype)
    model = small(cls, hidden_layer_sizes=hidden).fit(rows, y)
    outputs = [model.predict(rows)] if cls is MiniBatchRegressor else []
    if cls is MiniBatchClassifier:
        outputs += [model.decision_function(rows), model.predict_proba(rows)]
        outputs += [model.predict_log_proba(rows)]
    coefs, intercepts = layers_of(model)
    arrays = [
        *coefs,
        *intercepts,
        *chain(*model._state_["optimizer_state"].values()),
        *outputs,
    ]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    "dtype", ["float16", "longdouble", "int8", "int64", "uint8", "bool", "object"]
)
@every_class
def test_other_precisions_are_computed_in_float64(cls, dtype):
    """Rows that are neither float32 nor float64 give the fit of the same in float64."""
    rows = (4 * X).astype(dtype)
    model = small(cls, lr=0.01).fit(rows, two_classes == "yes")
    same = small(cls, lr=0.01).fit(rows.astype(np.float64), two_classes == "yes")
    assert model.coef_.dtype == np.float64
    assert fitted_state(model) == fitted_state(same)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_dtype_overrides_the_precision_of_X(dtype, given):
    """With dtype, rows of every kind are cast first and computed in it."""
    rows = (4 * X).astype(given)
    model = small(MiniBatchRegressor, dtype=dtype).fit(rows, y)
    same = small(MiniBatchRegressor).fit(rows.astype(dtype), y)
    assert model.coef_.dtype == dtype
    assert fitted_state(model) == fitted_state(same)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stream_keeps_the_precision_of_its_first_rows(dtype):
    """Later rows of any kind are cast to the precision of the first ones."""
    model = small(MiniBatchRegressor).partial_fit(X.astype(dtype), y)
    for later in ("float32", "float64", "int64"):
        model.partial_fit(X.astype(later), y)
    assert model.coef_.dtype == dtype


# Predictions


def test_a_linear_regressor_predicts_its_equation():
    """predict is X coef_ + intercept_, of the shape of the targets."""
    one, two = small(MiniBatchRegressor).fit(X, y), small(MiniBatchRegressor).fit(X, Y)
    np.testing.assert_allclose(one.predict(X), X @ one.coef_ + one.intercept_)
    np.testing.assert_allclose(two.predict(X), X @ two.coef_.T + two.intercept_)
    column = small(MiniBatchRegressor).fit(X, y[:, np.newaxis])
    np.testing.assert_allclose(column.predict(X), one.predict(X)[:, np.newaxis])


@pytest.mark.parametrize("labels", [two_classes, three_classes], ids=["two", "three"])
@every_depth
def test_probabilities_scores_and_labels_agree(labels, hidden):
    """Probabilities sum to 1, have the given logarithms, and the label the largest."""
    model = small(MiniBatchClassifier, hidden_layer_sizes=hidden).fit(X, labels)
    probability, log_probability = model.predict_proba(X), model.predict_log_proba(X)
    assert np.array_equal(model.classes_, np.unique(labels))
    assert probability.shape == (N_ROWS, len(model.classes_))
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(log_probability, np.log(probability), rtol=1e-10)
    assert np.array_equal(model.predict(X), model.classes_[probability.argmax(axis=1)])
    scores = model.decision_function(X)
    if len(model.classes_) == 2:  # positive for the second class
        assert scores.shape == (N_ROWS,)
        assert np.array_equal(model.predict(X) == model.classes_[1], scores > 0)
    else:
        assert np.array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])
    if not hidden:
        linear = X @ model.coef_.T + model.intercept_
        np.testing.assert_allclose(scores.reshape(linear.shape), linear, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "raw", [1e4, 1e3, 40, 1e-3], ids=lambda raw: f"raw prediction {raw}"
)
def test_log_probabilities_are_exact_however_certain_the_model(raw, dtype):
    """At raw predictions of +-1e4 logarithms are finite and those of scipy."""
    rows = np.array([[1.0], [-1.0]], dtype=dtype)
    scale = np.array(raw, dtype=dtype)
    two = small(MiniBatchClassifier, batch_size=None).fit(rows, [0, 1])
    two.coef_, two.intercept_ = np.full_like(two.coef_, scale), 0 * two.intercept_
    z = rows.astype(float) * float(scale)
    expected = np.hstack([log_expit(-z), log_expit(z)])
    tolerance = {"rtol": 1e-5 if dtype == "float32" else 1e-13}
    np.testing.assert_allclose(two.predict_log_proba(rows), expected, **tolerance)
    assert np.isfinite(two.predict_proba(rows)).all()

    three = small(MiniBatchClassifier, batch_size=None)
    three.fit(np.ones((3, 1), dtype=dtype), [0, 1, 2])
    three.coef_ = np.array([[-1], [0], [1]], dtype=dtype) * scale
    three.intercept_ = 0 * three.intercept_
    expected = log_softmax(z * [-1, 0, 1], axis=1)
    np.testing.assert_allclose(three.predict_log_proba(rows), expected, **tolerance)
    np.testing.assert_allclose(three.predict_proba(rows).sum(axis=1), 1, rtol=1e-6)


def test_score_counts_weights():
    """score is R squared, or accuracy, of the weighted rows."""
    regressor = small(MiniBatchRegressor).fit(X, y)
    expected = metrics.r2_score(y, regressor.predict(X), sample_weight=WEIGHT)
    assert regressor.score(X, y, sample_weight=WEIGHT) == pytest.approx(expected)
    classifier = small(MiniBatchClassifier).fit(X, two_classes)
    right = classifier.predict(X) == two_classes
    expected = np.average(right, weights=WEIGHT)
    assert classifier.score(X, two_classes, sample_weight=WEIGHT) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "labels",
    [["b", "a"], [True, False], [-3, 7], [0.0, 2.0], [2**40, 5]],
    ids=["text", "bool", "int", "float", "large"],
)
def test_labels_of_any_kind_are_predicted_as_they_are(labels):
    """Labels keep their kind, and the fit depends on their order alone."""
    positive = two_classes == "yes"
    small_one, large_one = np.sort(np.array(labels))
    model = small(MiniBatchClassifier).fit(X, np.where(positive, large_one, small_one))
    same = small(MiniBatchClassifier).fit(X, positive)
    assert model.predict(X).dtype == np.array(labels).dtype
    assert np.array_equal(model.coef_, same.coef_)
    assert np.array_equal(model.predict(X) == large_one, same.predict(X))


# Starting weights


def some_start(cls, y, hidden):
    """Return keywords of fit with starting weights, and these as lists of layers."""
    rng = np.random.default_rng(1)
    model = small(cls, hidden_layer_sizes=hidden).fit(X, y)
    names = ["coefs_", "intercepts_"] if hidden else ["coef_", "intercept_"]
    starts = {}
    for name in names:
        fitted = getattr(model, name)
        start = [rng.normal(size=a.shape) for a in (fitted if hidden else [fitted])]
        starts[f"{name}init"] = start if hidden else start[0]
    return starts


@every_task
@every_depth
def test_training_starts_at_the_given_weights(cls, y, hidden):
    """With steps of no size a model stays at its starting weights."""
    starts = some_start(cls, y, hidden)
    model = small(cls, hidden_layer_sizes=hidden, optimizer="sgd", lr=1e-300, alpha=0)
    model.fit(X, y, **starts)
    for name, start in starts.items():
        for array, given in zip(getattr(model, name[:-4]), start, strict=True):
            np.testing.assert_allclose(array, given, rtol=1e-14, err_msg=name)


@every_task
@every_depth
def test_weights_not_given_start_as_without_any(cls, y, hidden):
    """A start of some of the weights leaves the others at zero or at the draw."""
    still = {"optimizer": "sgd", "lr": 1e-300, "alpha": 0}
    model = small(cls, hidden_layer_sizes=hidden, **still)
    model.set_params(**AS_THEY_ARE.get(cls, {}))  # else intercepts start at the mean
    coefs, intercepts = layers_of(clone(model).fit(X, y))
    assert not any(np.abs(bias).max() > 1e-290 for bias in intercepts)
    assert all(np.abs(coef).max() > 1e-290 for coef in coefs) is bool(hidden)
    for name, start in some_start(cls, y, hidden).items():
        started = clone(model).fit(X, y, **{name: start})
        both = list(zip(layers_of(started), (coefs, intercepts), strict=True))
        kept = both[1] if name.startswith("coef") else both[0]
        for array, other in zip(*kept, strict=True):
            np.testing.assert_allclose(array, other, atol=1e-290)


def test_a_start_may_be_any_array_of_its_shape():
    """Lists, DataFrames and vectors for a single output are taken alike."""
    still = small(MiniBatchRegressor, optimizer="sgd", lr=1e-300, alpha=0)
    for start in ([1, 2, 3, 4], [[1.0, 2, 3, 4]], pd.Series([1, 2, 3, 4])):
        coef = still.fit(X, y, coef_init=start).coef_
        np.testing.assert_allclose(coef, [1, 2, 3, 4], rtol=1e-14)
    for start in (5, [5.0], np.array([5], dtype=np.float32)):
        assert still.fit(X, y, intercept_init=start).intercept_ == pytest.approx(5)


def test_starting_weights_are_not_written_into():
    """The arrays that a fit starts from are its caller's, and may be read-only."""
    start = np.ones(N_FEATURES)
    start.flags.writeable = False
    small(MiniBatchRegressor).fit(X, y, coef_init=start)
    assert start.tolist() == [1] * N_FEATURES


# Sample weights


@pytest.mark.parametrize("weight", [1, 2.5, np.full(N_ROWS, 7)], ids=["1", "2.5", "7s"])
def test_weights_that_are_all_alike_are_none(weight):
    """A number for all rows, or the same for each, is the fit without weights."""
    plain = small(MiniBatchRegressor).fit(X, y)
    weighted = small(MiniBatchRegressor).fit(X, y, sample_weight=weight)
    assert_same_layers(weighted, plain, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 1, 8])
@every_task
def test_weights_matter_at_every_batch_size(cls, y, batch_size):
    """A heavy row pulls the fit, even where it is a batch of its own."""

    def loss_of_the_first_row(weight):
        lr = 1e-3 * (batch_size or N_ROWS)
        model = small(cls, optimizer="sgd", batch_size=batch_size, lr=lr)
        model.fit(X, y, sample_weight=weight)
        return loss_by_scikit_learn(model, X[:1], y[:1])

    heavy = np.where(np.arange(N_ROWS) == 0, 1000, 1)
    assert loss_of_the_first_row(heavy) < 0.99 * loss_of_the_first_row(None)


# Input of every kind


def as_memmap(array, tmp_path):
    """Return the array as a read-only memory map of a file of its own."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def as_read_only(array, tmp_path):
    """Return a copy of the array that cannot be written."""
    array = array.copy()
    array.flags.writeable = False
    return array


KINDS_OF_INPUT = {
    "read-only": as_read_only,
    "memory map": as_memmap,
    "Fortran order": lambda a, tmp_path: np.asfortranarray(a),
    "negative strides": lambda a, tmp_path: np.flip(np.flip(a).copy()),
    "every other row": lambda a, tmp_path: np.repeat(a, 2, axis=0)[::2],
    "big-endian": lambda a, tmp_path: a.astype(a.dtype.newbyteorder(">")),
    "list": lambda a, tmp_path: a.tolist(),
    "pandas": lambda a, tmp_path: (
        pd.Series(a)
        if a.ndim == 1
        else pd.DataFrame(a, columns=list("abcd")[: a.shape[1]])
    ),
}


@every_pair(
    pytest.mark.parametrize("kind", KINDS_OF_INPUT.values(), ids=KINDS_OF_INPUT),
    every_task,
    every_depth,
)
def test_how_input_lies_in_memory_changes_nothing(cls, y, hidden, kind, tmp_path):
    """Rows, targets and weights of any layout give the bits of the plain arrays."""
    odd = [kind(array, tmp_path) for array in (X, y, WEIGHT)]
    before = [frozen(np.asarray(array)) for array in odd]
    model = small(cls, hidden_layer_sizes=hidden)
    plain = clone(model).fit(X, y, sample_weight=WEIGHT)
    same = clone(model).fit(*odd[:2], sample_weight=odd[2])
    for name in ("feature_names_in_", "classes_"):  # these are of the kind of the input
        values = [vars(estimator).pop(name, None) for estimator in (same, plain)]
        assert name == "feature_names_in_" or np.array_equal(*values)
    assert fitted_state(same) == fitted_state(plain)
    assert [frozen(np.asarray(array)) for array in odd] == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_byte_order_does_not_change_the_precision(dtype):
    """Big-endian float32 is float32."""
    rows = X.astype(dtype)
    other = rows.astype(rows.dtype.newbyteorder(">"))
    plain = small(MiniBatchRegressor).fit(rows, y)
    assert fitted_state(small(MiniBatchRegressor).fit(other, y)) == fitted_state(plain)


@pytest.mark.parametrize("kind", KINDS_OF_INPUT.values(), ids=KINDS_OF_INPUT)
def test_a_whole_batch_of_any_layout_gives_the_same_numbers(kind, tmp_path):
    """Without the copy into a batch the layout may decide the last bit, no more."""
    model = small(MiniBatchRegressor, batch_size=None, max_iter=20)
    rows = kind(X, tmp_path)
    plain, same = clone(model).fit(X, y), clone(model).fit(rows, y)
    assert_same_layers(same, plain, rtol=1e-12)
    np.testing.assert_allclose(same.predict(rows), plain.predict(X), rtol=1e-12)


def test_a_single_row_and_a_single_feature_will_do():
    """The smallest training sets are fitted and predicted."""
    one_row = small(MiniBatchRegressor, batch_size=1).fit(X[:1], y[:1])
    assert one_row.predict(X).shape == (N_ROWS,)
    one_feature = small(MiniBatchClassifier).fit(X[:, :1], two_classes)
    assert one_feature.coef_.shape == (1, 1)


# Side effects


@every_task
@every_depth
def test_prediction_changes_nothing_and_runs_in_threads(cls, y, hidden):
    """8 threads predict the bits that one does, and leave the estimator as it was."""
    model = small(cls, hidden_layer_sizes=hidden).fit(X, y)
    methods = [model.predict]
    if cls is MiniBatchClassifier:
        methods += [
            model.decision_function,
            model.predict_proba,
            model.predict_log_proba,
        ]
    before, threads = frozen(vars(model)), torch.get_num_threads()
    expected = [frozen(method(X)) for method in methods]
    with ThreadPoolExecutor(8) as pool:
        for method, result in zip(methods, expected, strict=True):
            for other in pool.map(method, [X] * 100):
                assert frozen(other) == result
        counts = set(pool.map(lambda _: torch.get_num_threads(), range(100)))
    assert counts == {threads}
    assert frozen(vars(model)) == before
    assert torch.get_num_threads() == threads


def test_fits_in_threads_do_not_see_each_other():
    """Four fits at the same time are the four fits one after another."""
    models = [small(MiniBatchRegressor, random_state=seed) for seed in range(4)]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda model: clone(model).fit(X, y), models))
    for one, model in zip(together, models, strict=True):
        assert fitted_state(one) == fitted_state(model.fit(X, y))
    assert torch.get_num_threads() == threads


@every_pair(
    every_optimizer,
    every_depth,
    every_task,
)
def test_fitted_state_is_numpy_and_python_values(cls, y, hidden, optimizer, device):
    """No tensor stays on an estimator, whatever device it was trained on."""
    model = small(cls, hidden_layer_sizes=hidden, **{**optimizer, "lr": 0.01})
    model.set_params(record_batch_loss=True, device=device)
    model.fit(X, y).partial_fit(X, y)
    kinds = {type(value) for value in contents(vars(model))}
    plain = {np.ndarray, np.random.Generator, dict, list, tuple}
    assert kinds <= plain | {str, bool, int, float, type(None)}


@every_task
@every_depth
def test_devices_agree(cls, y, hidden, device):
    """The fit on any device is that on the CPU; "auto" is CUDA if there is one."""
    model = small(cls, hidden_layer_sizes=hidden)
    there, here = clone(model).set_params(device=device).fit(X, y), model.fit(X, y)
    assert_same_layers(there, here, rtol=1e-9, atol=1e-12)
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith(best):
        auto = clone(model).set_params(device="auto").fit(X, y)
        assert fitted_state(auto) == fitted_state(there)


def predict_and_exit(model, rows, expected):
    """Leave the process with 0 if the model predicts what is expected."""
    os._exit(not np.allclose(model.predict(rows), expected, rtol=1e-10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("hidden", [(), (256,)], ids=["linear", "network"])
def test_prediction_finishes_in_a_forked_child(hidden):
    """A child forked after a product on several threads predicts and ends."""
    rows, threads = np.random.default_rng(0).normal(size=(5000, 300)), 2
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden)
    model.set_params(batch_size=500, max_iter=1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = model.fit(rows, rows[:, :2]).predict(rows)
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=predict_and_exit, args=(model, rows, expected))
        with warnings.catch_warnings():  # from 3.12 on, of the threads forked from
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        child.join(timeout=300)
        hangs = child.exitcode is None
        child.kill()
        child.join()
        assert not hangs
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(before)


def test_another_optimizer_begins_with_steps_of_its_own():
    """Adam after sgd corrects its moments from its own first step, not the fit's."""
    model = small(MiniBatchRegressor, optimizer="sgd", lr=0.01, warm_start=True)
    model.fit(X, y)
    before = model.coef_.copy()
    model.set_params(optimizer="adam", max_iter=1, batch_size=None).fit(X, y)

    assert np.abs(model.coef_ - before).max() < 1.001 * 0.01 * y.std()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_does_not_go_on_with_other_intercepts(optimizer):
    """fit_intercept changed after a fit is told, not followed in silence."""
    model = small(MiniBatchRegressor, optimizer=optimizer).fit(X, y)
    model.set_params(fit_intercept=False)
    with pytest.raises(ValueError, match="fit_intercept=True"):
        model.partial_fit(X, y)
