"""What a fit leaves behind: precision, copies, files, the process it ran in, memory."""

import copy
import gc
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    RAW,
    TASKS,
    WEIGHT,
    X,
    Y,
    contents,
    every_class,
    every_depth,
    fitted_state,
    frozen,
    global_state,
    real_devices,
    small,
)
from covering import every_pair
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import skgd
import skgd._estimators.record
from skgd import (
    LossCurveDisplay,
    LossSurfaceDisplay,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    VectorizedHalvingGridSearchCV,
)
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS
from skgd._estimators.state import known_state, layout_of
from skgd._estimators.targets import known_targets
from skgd._estimators.weights import layers_in

y = Y[:, 0]
two_classes, labels = TASKS["two classes"][1], TASKS["three classes"][1]
LOSSES = {
    MiniBatchRegressor: LOSSES_OF_NUMBERS,
    MiniBatchClassifier: LOSSES_OF_CLASSES,
}
TARGET = {MiniBatchRegressor: y, MiniBatchClassifier: labels}
several = (Y > 3).astype(int)
ROOT = Path(__file__).parents[2]


def methods_of(model):
    """Return the methods that predict."""
    names = "predict", "decision_function", "predict_proba", "predict_log_proba"
    return [getattr(model, name) for name in names if hasattr(model, name)]


# Precision

EACH_LOSS = [
    pytest.param(cls, loss, id=loss)
    for cls, losses in LOSSES.items()
    for loss in losses
]
EVERY_CURVE = {
    "record_batch_loss": True,
    "early_stopping": True,
    "average": True,
    "lr_schedule": "adaptive",
    "dropout": 0.1,
    "max_grad_norm": 1.0,
}


@pytest.mark.filterwarnings("ignore:Training ended with a loss")
@pytest.mark.filterwarnings("ignore:No epoch did better")
@every_pair(
    pytest.mark.parametrize(("cls", "loss"), EACH_LOSS),
    every_depth,
    pytest.mark.parametrize("targets", ["one", "several"]),
    pytest.mark.parametrize(
        "params", [{}, EVERY_CURVE], ids=["plain", "all that is kept"]
    ),
)
def test_float32_stays_float32(cls, loss, hidden, targets, params):
    """No weight, no optimizer state and no prediction is in another precision."""
    target = {
        (MiniBatchRegressor, "one"): abs(y) + 1,
        (MiniBatchRegressor, "several"): abs(Y) + 1,
        (MiniBatchClassifier, "one"): labels,
        (MiniBatchClassifier, "several"): several,
    }[cls, targets]
    model = small(cls, loss=loss, hidden_layer_sizes=hidden, lr=0.001, **params)
    rows = X.astype(np.float32)
    model.fit(rows, target)
    model.set_params(early_stopping=False).partial_fit(rows, target)
    model.partial_fit(X, target)
    # labels, what is told of the training, and the scale that targets are brought to
    told = {"classes_", "batch_loss_curve_", "_targets_"}
    kept = {name: value for name, value in vars(model).items() if name not in told}
    arrays = [one for one in contents(kept) if isinstance(one, np.ndarray)]
    assert len(arrays) >= 4
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    for method in methods_of(model):
        if cls is MiniBatchRegressor or method.__name__ != "predict":
            assert method(rows).dtype == np.float32
            assert method(X).dtype == np.float32


# Copies and files


def by_skops(model, tmp_path):
    """Return the estimator after a file of skops that trusts its class alone."""
    io = pytest.importorskip("skops.io")
    ours = [f"skgd.{type(model).__name__}"]
    data = io.dumps(model)
    assert io.get_untrusted_types(data=data) == ours
    return io.loads(data, trusted=ours)


def by_dask(model, tmp_path):
    """Return the estimator after Dask has sent it to another process."""
    protocol = pytest.importorskip("distributed.protocol")
    header, frames = protocol.serialize(model)
    return protocol.deserialize(header, [bytes(frame) for frame in frames])


def by_buffers(model, tmp_path):
    """Return the estimator after a pickle whose arrays travel apart, read-only."""
    buffers = []
    data = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])


def by_compressed_file(model, tmp_path):
    """Return the estimator after a compressed file of joblib."""
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    return joblib.load(tmp_path / "model.joblib")


COPIES = {
    "skops": by_skops,
    "Dask": by_dask,
    "buffers": by_buffers,
    "compressed": by_compressed_file,
    "copy": lambda model, tmp_path: copy.copy(model),
    "protocol 2": lambda model, tmp_path: pickle.loads(pickle.dumps(model, 2)),
}
RANDOM = np.random.RandomState(0)
STATES = {
    "several labels": (MiniBatchClassifier, several, {}),
    "text": (MiniBatchClassifier, two_classes, {"class_weight": "balanced"}),
    "all that is kept": (MiniBatchRegressor, y, EVERY_CURVE),
    "a RandomState": (MiniBatchRegressor, Y, {"random_state": RANDOM, "dropout": 0.5}),
    "a network": (MiniBatchClassifier, labels, {"hidden_layer_sizes": np.array([3])}),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(("cls", "target", "params"), STATES.values(), ids=STATES)
def test_a_copy_is_the_original(cls, target, params, copied, tmp_path):
    """It has the bytes, predicts them, and trains on to the same ones."""
    model = small(cls, **params).fit(X, target)
    other = copied(model, tmp_path)
    assert frozen(vars(other)) == frozen(vars(model))
    assert type(other) is cls
    for method, same in zip(methods_of(other), methods_of(model), strict=True):
        assert frozen(method(X)) == frozen(same(X))
    for estimator in (other, model):
        estimator.set_params(early_stopping=False, warm_start=True)
        if estimator.get_params().get("class_weight") == "balanced":
            estimator.set_params(class_weight=None)
        estimator.partial_fit(X, target).fit(X, target)
    assert fitted_state(other) == fitted_state(model)


@every_class
def test_a_clone_of_any_copy_is_unfitted(cls):
    """A clone takes the parameters of a fitted estimator, odd ones included."""
    schedule = np.sqrt
    model = small(cls, lr_schedule=schedule, hidden_layer_sizes=np.array([2]))
    model.fit(X, TARGET[cls])
    other = clone(copy.deepcopy(model))
    assert not [name for name in vars(other) if name.endswith("_")]
    assert other.lr_schedule is schedule
    assert other.fit(X, TARGET[cls]).predict(X).tolist() == model.predict(X).tolist()


LOAD = """
import pickle, sys, torch
assert not torch.cuda.is_available()
for model, X, expected in pickle.load(sys.stdin.buffer):
    error = abs(model.predict(X) - expected).max()
    assert error < 1e-9, error
    model.partial_fit(X, expected)
"""


@real_devices
def test_a_model_loads_where_no_gpu_is_seen(device):
    """Wherever it was trained, it predicts and goes on on the CPU."""
    models = [
        small(MiniBatchRegressor, hidden_layer_sizes=hidden, device=device).fit(X, y)
        for hidden in ((), (5,))
    ]
    expected = [model.predict(X) for model in models]
    for model in models:
        model.set_params(device="auto")
    data = pickle.dumps(list(zip(models, [X, X], expected, strict=True)))
    hidden_gpu = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", LOAD], input=data, env=hidden_gpu, check=True)


# Prediction beside other work


@every_class
def test_prediction_is_not_disturbed_by_fits_in_other_threads(cls):
    """While another estimator is fitted, eight threads predict what one does."""
    model = small(cls, hidden_layer_sizes=(16,)).fit(X, TARGET[cls])
    before = frozen(vars(model))
    expected = [frozen(method(X)) for method in methods_of(model)]
    busy = small(cls, hidden_layer_sizes=(64,), max_iter=100)
    with ThreadPoolExecutor(9) as pool:
        fit = pool.submit(busy.fit, X, TARGET[cls])
        for method, result in zip(methods_of(model), expected, strict=True):
            for other in pool.map(method, [X] * 200):
                assert frozen(other) == result
        fit.result()
    assert frozen(vars(model)) == before


# Names of columns

FRAME = pd.DataFrame(X, columns=list("abcd"))


@every_class
@pytest.mark.parametrize("scoring", [None, "loss", "neg_log_loss", "of one's own"])
@pytest.mark.parametrize("given", [False, True], ids=["split", "given"])
def test_names_of_columns_do_not_warn_when_stopping_early(cls, scoring, given):
    """Judging held-out rows warns of nothing, and names are checked as ever."""
    if scoring == "of one's own":
        scoring = own_score
    if scoring == "neg_log_loss" and cls is MiniBatchRegressor:
        scoring = "neg_max_error"
    model = small(cls, early_stopping=True, scoring=scoring)
    held_out = {"X_val": FRAME[:20], "y_val": TARGET[cls][:20]} if given else {}
    model.fit(FRAME, TARGET[cls], **held_out)  # a warning would be an error
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.predict(FRAME).shape == y.shape
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(FRAME[["b", "a", "c", "d"]])


def own_score(estimator, rows, target):
    """Return a score of predictions."""
    return -float(np.mean(estimator.predict(rows) != target))


# What is shown

ODD = {
    "None": None,
    "nan": np.nan,
    "an array": np.arange(3.0),
    "a large table": np.ones((50, 50)),
    "a frame": FRAME[:2],
    "a series": FRAME["a"][:2],
    "a tensor": torch.ones(3),
    "a lambda": lambda t: 1,
    "a class": MiniBatchRegressor,
    "an estimator": MiniBatchRegressor(lr=3),
    "long text": "a" * 10**5,
    "markup": "<script>&amp;\"'</script>",
    "half a character": "\ud800",
    "bytes": b"\xff",
    "a dict of arrays": {1: np.ones(2)},
    "arrays of several lengths": [np.ones(2), np.ones(3)],
    "a generator": np.random.default_rng(0),
    "a complex number": 1j,
    "a missing value": pd.NA,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "model",
    [MiniBatchRegressor(), small(MiniBatchClassifier).fit(X, labels)],
    ids=["unfitted regressor", "fitted classifier"],
)
def test_whatever_the_parameters_are_they_are_shown(model, odd):
    """repr and HTML do not fail, even where fit would."""
    model, name_of_class = copy.deepcopy(model), type(model).__name__
    for name in model.get_params():
        setattr(model, name, odd)
    before = set(vars(model))
    html = model._repr_html_()
    assert name_of_class in html
    assert "<script>&amp" not in html
    assert name_of_class in repr(model)
    assert set(vars(model)) == before


# Metadata routing


@every_class
def test_held_out_rows_reach_the_estimator_scaled(cls):
    """A pipeline transforms X_val as it does X, and hands on weights."""
    params = {"early_stopping": True, "scoring": "loss"}
    target = TARGET[cls]
    weights = {"sample_weight": WEIGHT, "sample_weight_val": WEIGHT[:20]}
    with config_context(enable_metadata_routing=True):
        model = small(cls, **params).set_fit_request(
            X_val=True, y_val=True, sample_weight=True, sample_weight_val=True
        )
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        steps = [("scale", scaler), ("model", model)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        pipeline.fit(RAW, target, X_val=RAW[:20], y_val=target[:20], **weights)
        scaled = StandardScaler().fit_transform(RAW)
        alone = small(cls, **params)
        alone.fit(scaled, target, X_val=scaled[:20], y_val=target[:20], **weights)
        assert fitted_state(pipeline[-1]) == fitted_state(alone)
        search = GridSearchCV(pipeline, {"model__lr": [0.01, 0.1]}, cv=2)
        search.fit(RAW, target, X_val=RAW[:20], y_val=target[:20])
        assert len(search.best_estimator_[-1].validation_loss_curve_) == 3


# The process

CALLS = {
    "fit": lambda model, target: model.fit(X, target),
    "partial_fit": lambda model, target: model.partial_fit(X, target),
    "predict": lambda model, target: model.predict(X),
    "score": lambda model, target: model.score(X, target),
    "scores": lambda model, target: [method(X) for method in methods_of(model)],
    "get_params": lambda model, target: model.get_params(),
    "set_params": lambda model, target: model.set_params(lr=0.1),
    "clone": lambda model, target: clone(model),
    "pickle": lambda model, target: pickle.loads(pickle.dumps(model)),
    "shown": lambda model, target: (repr(model), model._repr_html_()),
    "early stopping": lambda model, target: model.set_params(early_stopping=True).fit(
        X, target
    ),
    "held-out rows": lambda model, target: model.fit(X, target, X_val=X, y_val=target),
    "on several threads": lambda model, target: model.fit(
        np.tile(X, (50, 1)), np.tile(target, 50)
    ),
    "dropout": lambda model, target: model.set_params(dropout=0.5).fit(X, target),
    "frames": lambda model, target: clone(model).fit(FRAME, target).predict(FRAME),
    "tensors": lambda model, target: model.fit(torch.tensor(X), target),
    "interrupted": lambda model, target: model.set_params(lr_schedule=interrupt).fit(
        X, target
    ),
    "a wrong parameter": lambda model, target: model.set_params(lr=-1).fit(X, target),
    "wrong rows": lambda model, target: model.fit(X * np.nan, target),
    "wrong weights": lambda model, target: model.fit(X, target, -WEIGHT),
    "a wrong prediction": lambda model, target: model.predict(X[:, :2]),
    "wrong held-out rows": lambda model, target: model.fit(
        X, target, X_val=X[:, :2], y_val=target
    ),
    "divergence": lambda model, target: model.set_params(optimizer="sgd", lr=1e308).fit(
        9 * X, target
    ),
    "a schedule that fails": lambda model, target: model.set_params(
        lr_schedule=fail_later
    ).fit(X, target),
    "a scorer that fails": lambda model, target: model.set_params(
        early_stopping=True, scoring=fail_later
    ).fit(X, target),
}
FAIL = {name for name in CALLS if "wrong" in name or "fails" in name}


def fail_later(*args):
    """Raise an error in the middle of a fit."""
    raise ZeroDivisionError


def interrupt(t):
    """Press Ctrl-C at the third step."""
    if t == 3:
        raise KeyboardInterrupt
    return 1.0


@every_pair(
    every_class,
    every_depth,
    pytest.mark.parametrize("name", CALLS),
)
def test_every_call_leaves_the_process_as_it_was(cls, hidden, name):
    """Seeds, threads, modes, filters and handlers, also after calls that fail."""
    model = small(cls, hidden_layer_sizes=hidden and (64,), batch_size=20)
    model.fit(X, TARGET[cls])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.rand(1)  # away from the state that a fixed seed leads to
    np.random.random()  # noqa: NPY002
    try:
        before, failed = global_state(), False
        try:
            CALLS[name](model, TARGET[cls])
        except (ValueError, ZeroDivisionError, KeyboardInterrupt):
            failed = True
        assert global_state() == before
        assert failed or name not in FAIL
        with ThreadPoolExecutor(1) as pool:  # what a thread that starts now has
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_callers_with_several_jobs_keep_their_threads(backend, loky):
    """A search over two workers leaves the number of threads as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = global_state()
        model = small(MiniBatchClassifier, hidden_layer_sizes=(8,))
        with joblib.parallel_config(backend):
            search = GridSearchCV(model, {"lr": [0.01, 0.1]}, cv=2, n_jobs=2)
            search.fit(X, labels)
        after = global_state()
        assert after["threads"] == before["threads"]
        assert after["gradients"] == before["gradients"]
        assert after["torch"] == before["torch"]
    finally:
        torch.set_num_threads(threads)


# Other versions


def unpickled(model, *without):
    """Return what an older version would have pickled, without some attributes."""
    state = model.__getstate__()
    assert state.pop("_skgd_version") == skgd.__version__
    for name in without:
        del state[name]
    other = type(model).__new__(type(model))
    with pytest.warns(UserWarning, match=r"by an older version of skgd, and is read"):
        other.__setstate__(state)
    return other


@every_class
@every_depth
def test_a_pickle_of_an_older_version_has_the_defaults_of_what_it_lacks(cls, hidden):
    """It predicts, is shown, trains on and is cloned like one of this version."""
    model = small(cls, hidden_layer_sizes=hidden).fit(X, TARGET[cls])
    lacks = ["max_grad_norm", "dropout", "lr_schedule", "warmup_steps"]
    other = unpickled(model, *lacks)
    for name in ("optimizer_begun", "slowed", "average_begun", "schedule_begun"):
        del other._state_[name]
    assert frozen(vars(other)).keys() == frozen(vars(model)).keys()
    assert other.get_params() == model.get_params()
    assert repr(other) == repr(model)
    assert frozen(other.predict(X)) == frozen(model.predict(X))
    other.partial_fit(X, TARGET[cls])
    assert fitted_state(other) == fitted_state(model.partial_fit(X, TARGET[cls]))
    assert fitted_state(clone(other).fit(X, TARGET[cls])) == fitted_state(
        clone(model).fit(X, TARGET[cls])
    )


@every_depth
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_state_of_lists_of_arrays_goes_on_as_one_of_vectors(hidden, fit_intercept):
    """So older versions kept it: weights and biases of each layer, in their order."""
    params = {"hidden_layer_sizes": hidden, "fit_intercept": fit_intercept}
    model = small(MiniBatchRegressor, average=True, **params).fit(X, Y)
    state = model.__getstate__()
    kept = dict(state["_state_"])
    layout = layout_of(known_state(model, known_targets(model)))

    def as_lists(vector):
        pairs = layers_in(vector, layout)
        return [array for pair in pairs for array in pair[: 1 + fit_intercept]]

    vectors = kept["optimizer_state"].items()
    kept["optimizer_state"] = {name: as_lists(vector) for name, vector in vectors}
    kept["in_training"] = as_lists(kept["in_training"])
    del kept["columns_first"]
    older = type(model).__new__(type(model))
    older.__setstate__({**state, "_state_": kept})
    assert frozen(older.predict(X)) == frozen(model.predict(X))
    older.partial_fit(X, Y)
    assert fitted_state(older) == fitted_state(model.partial_fit(X, Y))


@every_class
def test_one_that_was_never_fitted_is_none_the_less_unfitted(cls):
    """Nothing of a fitted state is made up."""
    other = unpickled(small(cls), "dropout")
    assert not fitted_state(other)
    assert other.dropout == 0


def test_a_pickle_of_another_version_is_told_once(monkeypatch):
    """With both versions; what was pickled by this one is read without a word."""
    data = pickle.dumps([small(MiniBatchRegressor).fit(X, y)] * 2)
    [model, _] = pickle.loads(data)
    monkeypatch.setattr("skgd._estimators.versions.VERSION", "99.1")
    message = rf"pickled by version {skgd.__version__} of skgd.* read by version 99\.1"
    with pytest.warns(UserWarning, match=message) as told:
        [other, same] = pickle.loads(data)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert other is same
    assert frozen(vars(other)) == frozen(vars(model))


def test_the_version_is_no_attribute():
    """It stands in the pickled state alone, whatever becomes of it."""
    model = small(MiniBatchRegressor).fit(X, y)
    for other in (
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        clone(model),
    ):
        assert not [name for name in vars(other) if "version" in name]
    assert model.__getstate__()["_skgd_version"] == skgd.__version__


def test_a_search_of_an_older_version_is_read_likewise():
    """It takes the default of what it lacks."""
    search = VectorizedGridSearchCV(small(MiniBatchRegressor), {"lr": [0.1]}, cv=2)
    search.fit(X, y)
    other = unpickled(search, "max_bytes", "return_train_score")
    assert repr(other) == repr(search)
    assert frozen(other.predict(X)) == frozen(search.predict(X))
    assert frozen(pickle.loads(pickle.dumps(other)).predict(X)) == frozen(
        search.predict(X)
    )


# Floating-point errors


def searched(search, **params):
    """Return what a search finds, but for its times."""
    model = small(MiniBatchRegressor, max_iter=4, **params)
    found = search.set_params(estimator=model, cv=2, refit=True).fit(X, y)
    scores = found.cv_results_["mean_test_score"]
    return scores, found.predict(X), found.score(X, y)


def drawn(display):
    return display.loss if hasattr(display, "loss") else display.losses


def error_of(call):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    return str(error.value)


LONG = {"max_iter": 1000, "batch_size": None, "beta_2": 0.4}  # 0.4 ** 1000 is 0
TINY = 1e-320 * X
FITTED = small(MiniBatchRegressor, early_stopping=True).fit(X, y)
CLASSIFIED = small(MiniBatchClassifier).fit(X, labels)
STEP = {"lr_schedule": "step", "decay": 0.1, "decay_every": 1}
ROUNDED = {
    **{
        name: lambda name=name: fitted_state(
            small(MiniBatchRegressor, optimizer=name, **LONG).fit(X, y)
        )
        for name in ("adam", "adamw", "adagrad", "rmsprop")
    },
    "sgd": lambda: fitted_state(
        small(MiniBatchClassifier, optimizer="sgd", **LONG, **STEP).fit(X, labels)
    ),
    "a network": lambda: fitted_state(
        small(MiniBatchClassifier, hidden_layer_sizes=(3,), beta_1=1e-200).fit(
            X, labels
        )
    ),
    "tiny weights of rows": lambda: fitted_state(
        small(MiniBatchRegressor, early_stopping=True).fit(X, y, 1e-300 * WEIGHT)
    ),
    "a stream": lambda: fitted_state(
        small(MiniBatchRegressor, beta_1=1e-200, batch_size=None)
        .partial_fit(X, y)
        .partial_fit(X, y)
    ),
    "all that predicts": lambda: [
        [method(TINY), method(1e4 * X)]
        for model in (FITTED, CLASSIFIED)
        for method in methods_of(model)
    ],
    "a score": lambda: FITTED.score(X, 1e-200 * y),
    "rows that are refused": lambda: error_of(
        lambda: FITTED.predict(np.full((2, 4), [[np.inf], [-np.inf]]))
    ),
    "a search": lambda: searched(
        VectorizedGridSearchCV(None, {"lr": [0.1, 0.01]}, scoring="r2"), beta_1=1e-200
    ),
    "a search one by one": lambda: searched(
        VectorizedGridSearchCV(None, {"max_time": [1e9]}), beta_1=1e-200
    ),
    "scikit-learn's search": lambda: searched(
        GridSearchCV(None, {"lr": [0.1, 0.01]}), beta_1=1e-200
    ),
    "a halving search": lambda: searched(
        VectorizedHalvingGridSearchCV(
            None, {"lr": [0.1, 0.01, 1.0]}, resource="max_iter", max_resources=9
        ),
        beta_1=1e-200,
    ),
    "loss curves": lambda: drawn(LossCurveDisplay.from_estimator(FITTED)),
    "a loss surface": lambda: drawn(
        LossSurfaceDisplay.from_estimator(FITTED, X, 1e-200 * y, grid_resolution=3)
    ),
}


@pytest.mark.parametrize("call", ROUNDED.values(), ids=ROUNDED)
def test_how_numpy_takes_errors_changes_nothing(call):
    """A caller may have it raise what it ignores otherwise."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    expected = frozen(call())
    with np.errstate(all="raise"):
        assert frozen(call()) == expected
        assert set(np.geterr().values()) == {"raise"}
    plt.close("all")


@pytest.mark.parametrize(
    ("params", "given", "kind"),
    [
        ({"batch_size": 1000, "tol": None}, {}, UserWarning),
        ({"tol": 1e-9}, {}, ConvergenceWarning),
        ({}, {"X_val": 1000 * X + 1e4, "y_val": y}, UserWarning),
    ],
    ids=["a large batch", "not settled", "held-out rows unlike the others"],
)
def test_warnings_of_fit_are_about_the_line_that_calls_it(params, given, kind):
    """They name this file."""
    with pytest.warns(kind) as told:
        small(MiniBatchRegressor, **params).fit(X, y, **given)
    assert {warning.filename for warning in told} == {__file__}


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "model",
    [MiniBatchRegressor(), MiniBatchClassifier(early_stopping=True)],
    ids=["regressor", "classifier, early stopping"],
)
def test_a_fit_on_a_memory_map_does_not_copy_it(model, tmp_path, monkeypatch):
    """Of a file of 100 MB a fit holds no more than the share that is held out."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.memory import peak_added, rows_of

    rows = rows_of("mapped", tmp_path / "X.npy", 50_000, 500)
    target = np.array(rows[:, 0])
    target = target > 0 if isinstance(model, MiniBatchClassifier) else target
    model = clone(model).set_params(max_iter=1, tol=None, device="cpu")
    model.set_params(batch_size=1024, random_state=0)
    model.fit(rows[:2000].copy(), target[:2000])  # what is loaded once is not added
    assert peak_added(lambda: model.fit(rows, target)) < 0.3 * rows.nbytes


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (MiniBatchRegressor, {"record_batch_loss": True, "average": True}),
        (MiniBatchClassifier, {}),
    ],
)
def test_a_stream_does_not_grow(cls, params, monkeypatch):
    """Once the curves are full, calls keep nothing: a leak is a block or more each."""
    kept = 20
    monkeypatch.setattr(skgd._estimators.record, "_KEPT_OF_A_STREAM", kept)
    model = small(cls, **params, batch_size=None)
    classes = {} if cls is MiniBatchRegressor else {"classes": [-1, 0, 1]}
    model.partial_fit(X, TARGET[cls], **classes)

    def stream(n_calls):
        """Return the memory blocks of Python, and the bytes of the model, after."""
        for _ in range(n_calls):
            model.partial_fit(X, TARGET[cls])
        gc.collect()
        assert len(model.loss_curve_) == kept  # the curves have just been cut
        return sys.getallocatedblocks(), len(pickle.dumps(model))

    stream(2 * kept)
    blocks, n_bytes = stream(20 * (kept + 1))
    n_calls = 20 * (kept + 1)
    later_blocks, later_bytes = stream(n_calls)
    assert later_blocks - blocks < n_calls / 2  # Python's own caches fill as well
    assert later_bytes - n_bytes < 100


def test_the_curves_of_a_stream_are_its_last_calls(monkeypatch):
    """What is dropped is the beginning; counts go on."""
    monkeypatch.setattr(skgd._estimators.record, "_KEPT_OF_A_STREAM", 20)
    model = small(MiniBatchRegressor, record_batch_loss=True, batch_size=None)
    losses, batch_losses = [], []
    for _ in range(100):
        model.partial_fit(X, y)
        losses.append(model.loss_)
        batch_losses.append(model.batch_loss_curve_[-1])
        kept = len(model.loss_curve_)
        assert model.loss_curve_ == losses[-kept:]
        assert model.batch_loss_curve_.tolist() == batch_losses[-kept:]
        assert kept == len(losses) or 20 <= kept <= 40
    assert (model.n_iter_, model.t_) == (100, 100)


def test_a_long_stream_keeps_its_best_loss(monkeypatch):
    """best_loss_ is the lowest of all calls, also of those whose loss was dropped."""
    monkeypatch.setattr(skgd._estimators.record, "_KEPT_OF_A_STREAM", 5)
    model = small(MiniBatchRegressor, batch_size=None)
    model.partial_fit(X, 0 * y)  # no loss at all
    for _ in range(20):
        model.partial_fit(X, y)
    assert 0 not in model.loss_curve_
    assert model.best_loss_ == 0
