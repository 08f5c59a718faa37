"""A model that is loaded is the one that was saved, or there is none."""

import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import (
    OPTIMIZERS,
    TASKS,
    X,
    Y,
    every_class,
    fitted_state,
    frozen,
    small,
)
from covering import every_pair
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skgd._training.csr
from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
)
from skgd._estimators.saved import file_of, model_of
from skgd._machine.trees import decode, encode

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "tests" / "data").glob("*.skgd"))

y = Y[:, 0]
labels = TASKS["three classes"][1]


def of(model):
    """Return all that an estimator is but for the time, frozen."""
    kept = {name: value for name, value in vars(model).items() if name != "note_"}
    kept.pop("time_curve_", None)
    return frozen(kept)


def saved(model, path, **parameters):
    """Return the model that is loaded from the file of another."""
    model.save(path)
    return type(model).load(path, **parameters)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skgd"


# The same model


KINDS = {
    "linear regression": (MiniBatchRegressor, y, ()),
    "linear classes": (MiniBatchClassifier, labels, ()),
    "network": (MiniBatchRegressor, Y, (5, 3)),
    "network of classes": (MiniBatchClassifier, TASKS["two classes"][1], (5,)),
}
every_kind = pytest.mark.parametrize(("cls", "y", "hidden"), KINDS.values(), ids=KINDS)
SETTINGS = {
    **OPTIMIZERS,
    **{
        f"schedule {name}": {"lr_schedule": name, "alpha": 50}
        for name in (
            *("constant", "invscaling", "optimal", "adaptive", "cosine", "one_cycle"),
            "step",
        )
    },
    "warm-up": {"warmup_steps": 13},
    "clipping": {"max_grad_norm": 0.3},
    "averaging": {"average": True},
    "averaging from a step on": {"average": 7},
    "dropout": {"dropout": 0.3},
    "an L1 penalty": {"l1_ratio": 0.4, "alpha": 0.1},
    "filled batches": {"last_batch": "fill"},
    "whole batches": {"batch_size": None},
    "no intercept": {"fit_intercept": False},
    "losses of batches": {"record_batch_loss": True},
    "a RandomState": {"random_state": np.random.RandomState(3)},
    "by torch": {"engine": "torch", "average": True},
}


@every_pair(
    pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS),
    every_kind,
)
def test_a_stream_goes_on_from_a_file(path, cls, y, hidden, params):
    """All of the model is as it was, and takes the steps that it would have taken."""
    model = small(cls, hidden_layer_sizes=hidden, **params)
    known = {"classes": np.unique(y)} if cls is MiniBatchClassifier else {}
    model.partial_fit(X, y, **known)
    loaded = saved(model, path)
    assert of(loaded) == of(model)
    assert loaded.time_curve_ == model.time_curve_
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert of(loaded.partial_fit(X, y)) == of(model.partial_fit(X, y))


@pytest.mark.parametrize("target", [labels, (Y > 3).astype(int)], ids=["one", "two"])
def test_a_stream_that_tests_and_balances_goes_on_from_a_file(path, target):
    """What it has seen of each class, and how it did, are as they were; it may grow."""
    model = small(MiniBatchClassifier, scoring="accuracy", class_weight="balanced")
    known = np.unique(target) if target is labels else range(2)
    model.partial_fit(X, target, known).partial_fit(X, target)
    loaded = saved(model, path)
    more = [*known, 2]
    grown = target if target is labels else np.column_stack([target, target[:, 0]])
    for one in (loaded, model):
        one.partial_fit(X, grown, more)
    assert repr(of(loaded)) == repr(of(model))  # but for NaN, which is not itself


@pytest.mark.parametrize(
    "seen",
    [np.ones(3), np.ones((1, 2)), np.full((1, 3), -1.0), np.full((1, 3), np.nan), 1.0],
    ids=str,
)
def test_rows_of_classes_that_no_stream_has_seen_are_refused(seen):
    """A file must hold a number of rows for each class, or none."""
    model = small(MiniBatchClassifier, class_weight="balanced").fit(X, labels)
    forge = _to(ATTRIBUTES, "_targets_", {"several_a_row": False, "seen": seen})
    with pytest.raises(ValueError, match="'_targets_'"):
        model_of(changed(model, forge), MiniBatchClassifier, {})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"early_stopping": True},
        {"early_stopping": True, "scoring": "loss", "tol": 0.0, "average": True},
        {"lr_schedule": "adaptive", "tol": 0.1, "max_iter": 30},
        {"lr_schedule": "cosine"},
    ],
    ids=repr,
)
@every_kind
def test_a_warm_start_goes_on_from_a_file(path, cls, y, hidden, params):
    """After a fit, too, with the rows that were held out before."""
    model = small(cls, hidden_layer_sizes=hidden, warm_start=True, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        loaded = saved(model, path)
        assert of(loaded) == of(model)
        assert of(loaded.fit(X, y)) == of(model.fit(X, y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", ["dense", "narrow", "wide"])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
def test_rows_of_any_kind_go_on_from_a_file(path, monkeypatch, dtype, width, hidden):
    """Dense, sparse and wide ones, whose weights lie otherwise, in any precision."""
    rows = sparse.random(60, 12, density=0.2, format="csr", rng=0).astype(dtype)
    if width == "dense":
        rows = rows.toarray()
    if width == "wide":
        monkeypatch.setattr(skgd._training.csr, "NARROW", 5)
    model = small(MiniBatchRegressor, hidden_layer_sizes=hidden, l1_ratio=0.5)
    model.fit(rows, y)
    loaded = saved(model, path)
    assert of(loaded) == of(model)
    assert of(loaded.partial_fit(rows, y)) == of(model.partial_fit(rows, y))


two = y > np.median(y)
several = (Y > 3).astype(int)
LABELS = {
    **{kind: two.astype(kind) for kind in ("i1", "u1", "i2", "u4", "i8", "f2", "f4")},
    "bools": two,
    "large ints": two + np.uint64(2**63),
    "big-endian": two.astype(">i4"),
    "text": np.where(two, "yes", "\u00e9\U0001f600"),
    "objects": np.where(two, "yes", "").astype(object),
    "dates": np.where(two, np.datetime64("2020-01-01"), np.datetime64("1969-07-20")),
    "timestamps": pd.Series(pd.to_datetime(np.where(two, "2020-01-01", "1999-01-01"))),
    "spans": np.where(two, np.timedelta64(3, "D"), np.timedelta64(1, "D")),
    "categories": pd.Series(np.where(two, "b", "a")).astype("category"),
    "three": labels,
    "negative": labels - 10,
    "several a row": several,
}


@pytest.mark.parametrize("target", LABELS.values(), ids=LABELS)
def test_labels_of_all_kinds_come_back(path, target):
    """Classes have their dtype, with the lowest byte first, and so have predictions."""
    model = small(MiniBatchClassifier).fit(X, target)
    loaded = saved(model, path)
    assert loaded.classes_.dtype == model.classes_.dtype.newbyteorder("<")
    assert list(map(type, loaded.classes_)) == list(map(type, model.classes_))
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.score(X, target) == model.score(X, target)
    again = saved(loaded.partial_fit(X, target), path)
    assert fitted_state(again) == fitted_state(loaded) | {"note_": None}


def test_names_of_columns_come_back(path):
    """And are asked for."""
    rows = pd.DataFrame(X, columns=["a", "\u00e9", "", "\U0001f600 d"])
    loaded = saved(small(MiniBatchRegressor).fit(rows, y), path)
    assert loaded.feature_names_in_.tolist() == rows.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(rows.rename(columns={"a": "b"}))


@every_class
def test_an_unfitted_model_has_its_parameters(path, cls):
    """It is what clone makes of it."""
    model = small(cls, hidden_layer_sizes=np.array([3, 2]), lr=np.float32(0.1))
    model.set_params(batch_size=np.int64(7), alpha=0.0)
    loaded = saved(model, path)
    assert of(loaded) == of(model)
    assert type(loaded.lr) is np.float32
    with pytest.raises(NotFittedError):
        loaded.predict(X)


def test_rows_that_do_not_count_leave_classes(path):
    """A stream that has seen nothing but its classes goes on from a file, too."""
    model = small(MiniBatchClassifier)
    model.partial_fit(X, labels, np.unique(labels), sample_weight=np.zeros(len(X)))
    loaded = saved(model, path)
    assert of(loaded.partial_fit(X, labels)) == of(model.partial_fit(X, labels))


def test_a_class_weight_has_labels_as_keys(path):
    """Of any kind."""
    for weights in ({0: 1.0, 1: 2}, {np.int64(0): 1.0, np.int64(1): np.float64(3)}):
        model = small(MiniBatchClassifier, class_weight=weights).fit(X, two.astype(int))
        loaded = saved(model, path)
        assert loaded.class_weight == weights
        assert list(map(type, loaded.class_weight)) == list(map(type, weights))


def test_a_search_has_a_model_to_save(path):
    """Its best estimator is one, by the same door."""
    search = VectorizedGridSearchCV(
        small(MiniBatchRegressor), {"lr": [0.1, 0.01]}, cv=2
    )
    best = search.fit(X, y).best_estimator_
    assert of(saved(best, path)) == of(best)


# What is noted


@pytest.mark.parametrize(
    "note",
    [
        *(None, 0, 17, "chunk 3", True, 0.1, [1, [2]], (1, 2), {"chunk": 17}),
        {"seen": np.arange(3), 1: None},
    ],
    ids=repr,
)
def test_a_note_is_given_back(path, note):
    """As it was, and not to the file after."""
    model = small(MiniBatchRegressor).fit(X, y)
    model.save(path, note=note)
    loaded = MiniBatchRegressor.load(path)
    assert frozen(loaded.note_) == frozen(note)
    assert saved(loaded, path).note_ is None


def test_a_note_of_anything_else_is_refused(path):
    """Before a file is written."""
    with pytest.raises(TypeError, match=r"note must be .* Got \{1\}"):
        small(MiniBatchRegressor).fit(X, y).save(path, note={1})
    assert not path.exists()


# What a file cannot hold


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr_schedule", lambda t: 1 / t),
        ("scoring", lambda model, X, y: -model.predict(X).var()),
    ],
)
def test_a_function_is_to_be_given_again(path, name, value):
    """The error says how; then all is as it was."""
    model = small(MiniBatchRegressor, early_stopping=name == "scoring", **{name: value})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y).save(path)
    with pytest.raises(
        ValueError, match=rf"{name}.* load\(path, {name}=|{name}=\.\.\."
    ):
        MiniBatchRegressor.load(path)
    assert of(MiniBatchRegressor.load(path, **{name: value})) == of(model)
    other = MiniBatchRegressor.load(path, **{name: model.get_params()[name]}, lr=0.3)
    assert other.lr == 0.3


def test_parameters_that_are_given_are_checked(path):
    """As set_params and fit do."""
    small(MiniBatchRegressor).fit(X, y).save(path)
    assert MiniBatchRegressor.load(path, device="cpu", lr=0.3).lr == 0.3
    with pytest.raises(ValueError, match=r"'lr' parameter .* Got -1"):
        MiniBatchRegressor.load(path, lr=-1)
    with pytest.raises(ValueError, match="learning_rate_init is lr here"):
        MiniBatchRegressor.load(path, learning_rate_init=0.1)


def test_a_parameter_that_is_wrong_is_not_saved(path):
    """No file is written that could not be read."""
    model = small(MiniBatchRegressor).fit(X, y).set_params(lr=-1)
    with pytest.raises(ValueError, match=r"'lr' parameter .* Got -1"):
        model.save(path)
    assert not path.exists()


def test_callbacks_are_left_out_with_a_word(path):
    """They look on, and are no part of the model."""
    model = small(MiniBatchRegressor).set_callbacks(WeightTrajectory()).fit(X, y)
    with pytest.warns(UserWarning, match=r"WeightTrajectory.* set_callbacks"):
        model.save(path)
    loaded = MiniBatchRegressor.load(path)
    assert fitted_state(loaded) == fitted_state(model) | {"note_": None}
    assert not hasattr(loaded, "_skl_callbacks")


def test_what_a_pipeline_is_asked_to_pass_on_comes_back(path):
    """scikit-learn's metadata routing."""
    model = small(MiniBatchRegressor)
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True, X_val="other")
        model.set_score_request(sample_weight=False)
    loaded = saved(model.fit(X, y), path)
    assert repr(loaded.get_metadata_routing()) == repr(model.get_metadata_routing())
    clone(loaded)


class Scaled(MiniBatchRegressor):
    """A regressor with a parameter of its own."""

    def __init__(self, *, factor=1.0, loss="squared_error", max_iter=200):
        super().__init__(loss=loss, max_iter=max_iter, tol=None)
        self.factor = factor


def test_a_subclass_is_saved_as_itself(path):
    """With its own parameters, fixed ones too, and attributes; as no other class."""
    model = Scaled(factor=np.array([2.0]), max_iter=3).fit(X, y)
    model.threshold_ = {"a": 0.5}
    loaded = saved(model, path)
    assert of(loaded) == of(model)
    assert of(loaded.partial_fit(X, y)) == of(model.partial_fit(X, y))
    with pytest.raises(ValueError, match=r"hold a MiniBatchRegressor. Got a Scaled"):
        MiniBatchRegressor.load(path)


def test_an_attribute_that_has_no_place_is_told(path):
    """It is not left out silently."""
    model = small(MiniBatchRegressor).fit(X, y)
    model.helper_ = object()
    with pytest.raises(TypeError, match=r"'helper_'.* Got a value of type object"):
        model.save(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coef_", np.full(4, np.nan)),
        ("coef_", [1.0] * 4),
        ("predict", None),
        ("t_", 1.5),
    ],
)
def test_what_could_not_be_read_is_not_written(path, name, value):
    """The old file is there."""
    model = small(MiniBatchRegressor).fit(X, y)
    model.save(path)
    before = path.read_bytes()
    setattr(model, name, value)
    with pytest.raises(ValueError, match=name):
        model.save(path)
    assert path.read_bytes() == before


# Files of others


def test_a_file_of_another_class_names_both(path):
    """And says how to read it."""
    small(MiniBatchRegressor).fit(X, y).save(path)
    with pytest.raises(
        ValueError, match=r"MiniBatchClassifier.*MiniBatchRegressor.load"
    ):
        MiniBatchClassifier.load(path)


def test_what_is_no_model_file_is_refused_in_a_sentence(path, tmp_path):
    """It names the file."""
    path.write_bytes(b"\x80\x04}.")
    with pytest.raises(
        ValueError, match=r"model.skgd.*does not begin as a file of skgd"
    ):
        MiniBatchRegressor.load(path)
    path.write_bytes(encode({"note": 3}))
    with pytest.raises(ValueError, match="holds no model"):
        MiniBatchRegressor.load(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*not there"):
        MiniBatchRegressor.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match="must be a file"):
        MiniBatchRegressor.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    signal.alarm(20)
    with pytest.raises(OSError, match="Got a FIFO"):
        MiniBatchRegressor.load(tmp_path / "fifo")
    signal.alarm(0)


def changed(model, change):
    """Return the file of a model whose tree was changed."""
    tree = decode(file_of(model))
    change(tree["estimator"])
    return encode(tree)


def test_an_older_file_takes_defaults():
    """Of parameters, and of what a state has had to remember since."""

    def older(tree):
        del tree["parameters"]["max_grad_norm"], tree["parameters"]["engine"]
        for name in ("slowed", "columns_first", "schedule_begun"):
            del tree["attributes"]["_state_"][name]

    model = small(MiniBatchRegressor).fit(X, y)
    loaded = model_of(changed(model, older), MiniBatchRegressor, {})
    assert (loaded.max_grad_norm, loaded.engine) == (None, "auto")
    after, expected = loaded.partial_fit(X, y), model.partial_fit(X, y)
    assert after.coef_.tobytes() == expected.coef_.tobytes()


def test_a_file_of_a_later_version_is_told():
    """Where it holds what this one does not know."""

    def later(tree):
        tree["parameters"]["patience"] = 3
        tree["versions"]["skgd"] = "9.9"

    data = changed(small(MiniBatchRegressor).fit(X, y), later)
    with pytest.raises(ValueError, match=r"'patience'.* by version 9\.9"):
        model_of(data, MiniBatchRegressor, {})


def _to(part, name, value):
    def change(tree):
        tree[part][name] = value

    return change


def _without(part, name):
    def change(tree):
        del tree[part][name]

    return change


def _state(name, value):
    def change(tree):
        tree["attributes"]["_state_"][name] = value

    return change


ATTRIBUTES = "attributes"
FORGED = {
    "a method": _to(ATTRIBUTES, "predict", 3),
    "a name of Python's": _to(ATTRIBUTES, "__class__", 3),
    "a note": _to(ATTRIBUTES, "note_", 3),
    "callbacks": _to(ATTRIBUTES, "_skl_callbacks", [3]),
    "requests": _to(ATTRIBUTES, "_metadata_request", {}),
    "a parameter": _to(ATTRIBUTES, "lr", 0.1),
    "no name": _to(ATTRIBUTES, "a b", 3),
    "a wrong parameter": _to("parameters", "lr", -1.0),
    "a loss by a path": _to("parameters", "loss", "os.system"),
    "an activation by a path": _to("parameters", "activation", "__import__"),
    "requests of another method": _to("requests", "__init__", {}),
    "requests of another kind": _to("requests", "fit", {"sample_weight": [1]}),
    "requests of other names": _to("requests", "fit", {"nothing": True}),
    "a version": _to("versions", "skgd", 3),
    "weights of objects": _to(ATTRIBUTES, "coef_", [1.0] * 4),
    "weights of text": _to(ATTRIBUTES, "coef_", np.array(["a"] * 4)),
    "too few weights": _to(ATTRIBUTES, "coef_", np.zeros(3)),
    "weights of another shape": _to(ATTRIBUTES, "coef_", np.zeros((1, 4))),
    "weights that are NaN": _to(ATTRIBUTES, "coef_", np.full(4, np.nan)),
    "another precision": _to(ATTRIBUTES, "coef_", np.zeros(4, np.float32)),
    "several intercepts": _to(ATTRIBUTES, "intercept_", np.zeros(2)),
    "no intercept": _without(ATTRIBUTES, "intercept_"),
    "no state": _without(ATTRIBUTES, "_state_"),
    "no targets": _without(ATTRIBUTES, "_targets_"),
    "no columns": _without(ATTRIBUTES, "n_features_in_"),
    "no epochs": _without(ATTRIBUTES, "n_iter_"),
    "two models in one": _to(ATTRIBUTES, "coefs_", [np.zeros((4, 1))] * 2),
    "steps before the first": _to(ATTRIBUTES, "t_", -1),
    "a curve of text": _to(ATTRIBUTES, "loss_curve_", ["a"]),
    "names of columns that are none": _to(ATTRIBUTES, "feature_names_in_", [1]),
    "targets of classes": _to(ATTRIBUTES, "_targets_", {"several_a_row": False}),
    "no stream": _state("generator", 3),
    "an old stream": _state("generator", np.random.RandomState(0)),
    "a state that is unknown": _state("patience", 3),
    "vectors of another length": _state("optimizer_state", {"moment_1": np.zeros(3)}),
    "a mean of another length": _state("in_training", np.zeros(3)),
    "a last layer of another shape": _state("last_layer", (np.zeros(3), np.zeros(1))),
    "a bool that is none": _state("fit_intercept", 1),
    "a memory of another kind": _state("stream", (1.0, 2.0)),
}


@pytest.mark.parametrize("quantiles", [(0.5,), (0.5, 0.5), (0.5, 1), [0.1, 0.5], 0.5])
def test_quantiles_that_are_not_those_of_the_outputs_are_refused(path, quantiles):
    """A file has a quantile for each output, or comes back as it was."""
    model = small(MiniBatchRegressor, loss="quantile", quantile=[0.9, 0.1]).fit(X, y)
    assert saved(model, path).predict(X).tobytes() == model.predict(X).tobytes()
    forge = _to(ATTRIBUTES, "_targets_", {**model._targets_, "quantiles": quantiles})
    with pytest.raises(ValueError, match="'_targets_'"):
        model_of(changed(model, forge), MiniBatchRegressor, {})


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_what_training_does_not_leave_is_refused(change):
    """With a ValueError: a file is believed no more than data."""
    data = changed(small(MiniBatchRegressor).fit(X, y), change)
    with pytest.raises(ValueError, match=r"It|parameter"):
        model_of(data, MiniBatchRegressor, {})


# Damage


@pytest.fixture
def durability(monkeypatch):
    """Give the benchmark that damages files."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import durability

    return durability


def test_every_flip_and_truncation_is_refused(durability):
    """Of each bit, and at each length, with a ValueError."""
    data = durability.smallest_file()
    model_of(data, MiniBatchRegressor, {})
    n, refused = durability.n_refused(
        data, lambda damaged: model_of(damaged, MiniBatchRegressor, {})
    )
    assert n == refused == 9 * len(data)


def test_no_mutant_gets_through(durability):
    """None of 1,500 runs code or opens a file, takes long, or fails in another way."""
    became, seconds, _ = durability.outcomes(1500, predicts=True, measures=False)
    assert became["refused"] > 1000
    assert became["models"] > 100
    assert not became["forbidden"]
    known = {"refused", "models", "forbidden", "models that predict"}
    assert not became.keys() - known - {"models, predictions refused"}
    assert seconds < durability.MOST_SECONDS
    _, _, most = durability.outcomes(100, predicts=False, measures=True, seed=1)
    assert 0 < most < durability.MOST_BYTES


def test_the_hook_sees_what_it_looks_for(durability):
    """So that the test above can fail."""
    durability.outcomes(1, predicts=False, measures=False)
    counted = durability.Counter()
    durability._watching.append(counted)
    try:
        with pytest.raises(RuntimeError, match="while a file is read"):
            compile("1", "code", "eval")
        with pytest.raises(RuntimeError, match="while a file is read"):
            open(__file__).close()
    finally:
        durability._watching.pop()
    assert counted == {"compile": 1, "open": 1}


# Files of earlier releases


@pytest.mark.parametrize("path", KEPT, ids=[path.name for path in KEPT])
def test_a_file_of_an_earlier_release_is_read(path):
    """It predicts and goes on as it did in the release that wrote it."""
    is_classifier = path.name.startswith("classifier")
    cls = MiniBatchClassifier if is_classifier else MiniBatchRegressor
    model = cls.load(path)
    predict = model.predict_proba if is_classifier else model.predict
    told = model.note_
    rows = pd.DataFrame(told["X"], columns=getattr(model, "feature_names_in_", None))
    rows = rows if is_classifier else told["X"]
    np.testing.assert_allclose(predict(rows), told["prediction"], rtol=1e-9)
    model.partial_fit(rows, told["y"])
    np.testing.assert_allclose(predict(rows), told["then"], rtol=1e-6)


def test_files_of_earlier_releases_are_kept():
    """One of each class, at least of the first format."""
    assert {"classifier-1.skgd", "regressor-1.skgd"} <= {path.name for path in KEPT}
