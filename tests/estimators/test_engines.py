"""Which engine trains: a rule of shapes and parameters."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from bad_cases import TARGET, assert_refused
from conftest import X, Y, assert_same_layers, every_class, small
from covering import every_pair
from pretended_cuda import pretended_cuda
from scipy import sparse
from sklearn.base import clone
from sklearn.callback import ProgressBar

from skgd import (
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
)
from skgd._estimators import fits
from skgd._training import engines

y = Y[:, 0]
WIDE = sparse.csr_array((X.ravel(), np.indices(X.shape).reshape(2, -1)), (60, 5000))


@pytest.fixture
def chosen(monkeypatch):
    """Give a list that gets what the rule says; torch trains, whatever it is."""
    answers = []

    def choose(*args):
        answers.append(engines.engine_of(*args))
        return "torch"

    monkeypatch.setattr(engines, "why_no_numba", str)
    monkeypatch.setattr(fits, "engine_of", choose)
    return answers


COVERED = {
    "default": {},
    "network": {"hidden_layer_sizes": (5, 3), "activation": "gelu"},
    "one row": {"batch_size": 1},
    "whole": {"batch_size": None},
    "filled": {"last_batch": "fill", "batch_size": 7},
    "float32": {"dtype": "float32"},
    "schedule": {"lr_schedule": "one_cycle", "warmup_steps": 3},
    "clipped": {"max_grad_norm": 0.1, "average": True},
    "held out": {"early_stopping": True, "validation_fraction": 0.3},
    "nothing to drop": {"dropout": 0.5},
    "clock": {"max_time": 1000.0, "record_batch_loss": True},
}


@every_pair(
    every_class,
    pytest.mark.parametrize("engine", ["auto", "numba"]),
    pytest.mark.parametrize("params", COVERED.values(), ids=COVERED),
)
def test_small_steps_of_one_model_are_the_loops(cls, params, engine, chosen):
    """Whatever else is asked for, in fit and in partial_fit."""
    model = small(cls, engine=engine, **params).fit(X, TARGET[cls])
    model.set_params(early_stopping=False).partial_fit(X, TARGET[cls])
    assert chosen == ["numba", "numba"]


@pytest.mark.parametrize("rows", [sparse.csr_array(X), WIDE, torch.tensor(X), X[::-1]])
def test_linear_models_on_rows_of_any_kind_are_the_loops(rows, chosen):
    """Sparse ones of any width too."""
    small(MiniBatchRegressor).fit(rows, y)
    assert chosen == ["numba"]


def test_callbacks_that_look_at_epochs_are_told_by_the_loops(chosen):
    """Those of scikit-learn, and the weights after every epoch."""
    bar = ProgressBar()
    for callback in (bar, WeightTrajectory()):
        small(MiniBatchRegressor).set_callbacks(callback).fit(X, y)
    assert chosen == ["numba", "numba"]


NETWORK = {"hidden_layer_sizes": (5,)}

# What the loops do not cover: the parameters, the rows, and the error.
NOT_COVERED = {
    "dropout": (
        {"dropout": 0.5, **NETWORK},
        X,
        r"must have dropout=0, .* Got 0\.5; leave it out, or use engine='auto'",
    ),
    "wide network": (
        NETWORK,
        WIDE,
        r"must have hidden_layer_sizes=\(\) where .* Got hidden layers and 5000 feat",
    ),
}


@every_class
@pytest.mark.parametrize(
    ("params", "rows", "match"), NOT_COVERED.values(), ids=NOT_COVERED
)
def test_what_the_loops_do_not_cover_is_torchs(cls, params, rows, match, chosen):
    """By rule with "auto"; "numba" is refused in a sentence that says why."""
    model = small(cls, **params).fit(rows, TARGET[cls])
    assert chosen == ["torch"]
    model.set_params(engine="numba")
    for method in (model.fit, model.partial_fit):
        assert_refused(method, rows, TARGET[cls], match=f"^engine='numba' {match}")


def test_callbacks_that_look_at_batches_are_torchs(chosen):
    """A loop does not stop for them."""
    model = small(MiniBatchRegressor).set_callbacks(WeightTrajectory(every="step"))
    clone(model).fit(X, y)
    assert chosen == ["torch"]
    model.set_params(engine="numba")
    match = "^engine='numba' must have callbacks that look at epochs"
    with pytest.raises(ValueError, match=match):
        model.fit(X, y)


def test_other_devices_are_torchs(chosen):
    """The loops compute on a CPU."""
    model = small(MiniBatchRegressor, device="cuda")
    with pretended_cuda():
        model.fit(X, y)
        match = "^engine='numba' must have a CPU to compute on. Got cuda:0; "
        assert_refused(model.set_params(engine="numba").fit, X, y, match=match)
    assert chosen == ["torch"]


@pytest.mark.parametrize("batch_size", [8, None])
def test_large_steps_are_torchs(batch_size, chosen, monkeypatch):
    """By the multiply-adds of a batch; "numba" takes them all the same."""
    model = small(MiniBatchRegressor, batch_size=batch_size, **NETWORK)
    monkeypatch.setattr(engines, "_LOOPS_WIN", 1000)  # a row has 25
    model.fit(X, y)
    assert chosen == ["numba" if batch_size == 8 else "torch"]
    model.set_params(engine="numba").fit(X, y)
    assert chosen[1:] == ["numba"]


def test_few_rows_of_a_large_batch_are_a_small_step(chosen, monkeypatch):
    """A batch has at most the rows that there are, in a stream too."""
    monkeypatch.setattr(engines, "_LOOPS_WIN", 200)  # a row has 4
    model = small(MiniBatchRegressor, batch_size=60)
    model.partial_fit(X[:40], y[:40]).partial_fit(X, y).partial_fit(X[:40], y[:40])
    assert chosen == ["numba", "torch", "numba"]


def test_torch_is_taken_when_it_is_asked_for(chosen):
    """The rule is not asked further."""
    small(MiniBatchRegressor, engine="torch").fit(X, y)
    assert chosen == ["torch"]


@pytest.fixture
def asked_anew():
    """Let it be asked anew, now and afterwards, whether numba can be used."""
    remembered = engines.is_installed, engines.why_no_numba, engines._warn
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def ruled(monkeypatch):
    """Give a list that gets what the rule says, with the numba that there is."""
    answers = []

    def choose(*args):
        answers.append(engines.engine_of(*args))
        return "torch"

    monkeypatch.setattr(fits, "engine_of", choose)
    return answers


@pytest.mark.usefixtures("asked_anew")
def test_without_numba_all_is_torchs(ruled, monkeypatch):
    """And "numba" is an error that says what to install."""
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    model = small(MiniBatchRegressor).fit(X, y)
    assert ruled == ["torch"]
    match = r"^engine='numba' must have numba .* Got none; pip install 'skgd\[numba\]',"
    assert_refused(model.set_params(engine="numba").fit, X, y, match=match)


def _broken(name):
    raise ImportError("Numba needs NumPy 2.3 or less.")


# How numba is there and cannot be used: what is patched, and what is said of it.
UNUSABLE = {
    "old": (
        lambda patch: patch.setattr(engines.metadata, "version", lambda _: "0.61.2"),
        r"Got numba 0\.61\.2, and needs 0\.62; pip install 'skgd\[numba\]', or",
    ),
    "disabled": (
        lambda patch: patch.setenv("NUMBA_DISABLE_JIT", "1"),
        "Got NUMBA_DISABLE_JIT=1 in the environment; unset it, or",
    ),
    "broken": (
        lambda patch: patch.setattr(engines, "import_module", _broken),
        r"\(ImportError: Numba needs NumPy 2\.3 or less\); pip install .*, or",
    ),
}


@pytest.mark.parametrize(("patch", "match"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.usefixtures("asked_anew")
def test_numba_that_cannot_be_used_is_told_once(patch, match, ruled, monkeypatch):
    """Torch trains, and a warning has the reason; "numba" is refused with it."""
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setattr(engines.metadata, "version", lambda name: "0.62.0")
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    patch(monkeypatch)
    model = small(MiniBatchRegressor)
    with pytest.warns(UserWarning, match=match) as caught:
        model.fit(X, y).fit(X, y)
    assert len(caught) == 1
    assert ruled == ["torch", "torch"]
    match = f"^engine='numba' must have numba to compile loops.*{match}"
    assert_refused(model.set_params(engine="numba").fit, X, y, match=match)


@pytest.mark.usefixtures("asked_anew")
def test_numba_is_not_imported_for_what_it_does_not_train(ruled, monkeypatch):
    """It takes a while, and might fail."""
    monkeypatch.setattr(engines, "import_module", pytest.fail)
    monkeypatch.setattr(engines, "_LOOPS_WIN", 0)
    small(MiniBatchRegressor).fit(X, y)
    small(MiniBatchRegressor, engine="torch").fit(X, y)
    assert ruled == ["torch", "torch"]


def test_a_broken_numba_of_another_process_is_told(tmp_path):
    """In earnest: the fit is that of torch, with a warning."""
    package = tmp_path / "numba"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemError('numba is broken')")
    code = (
        "import numpy as np, skgd; X = np.eye(4)\n"
        "print(skgd.MiniBatchRegressor(device='cpu').fit(X, X[0]).engine_)"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "torch\n"
    assert ran.stderr.count("SystemError: numba is broken") == 1


def test_a_search_asks_for_each_stack(chosen):
    """By the same rule as a fit, whose steps its models take."""
    grid = {"lr": [0.01, 0.1], "engine": ["torch", "numba"]}
    search = VectorizedGridSearchCV(small(MiniBatchRegressor), grid, cv=2)
    groups = search.fit(X, y).groups_
    assert [group.together for group in groups] == [True, True]
    assert [group.engine for group in groups] == ["torch", "torch"]  # see chosen
    assert sorted(chosen[:2]) == ["numba", "torch"]
    assert chosen[2:] == [search.best_params_["engine"]]


@every_class
def test_what_trained_is_an_attribute(cls):
    """It is pickled, copied, and forgotten like any other."""
    model = small(cls, engine="torch").fit(X, TARGET[cls])
    assert model.engine_ == pickle.loads(pickle.dumps(model)).engine_ == "torch"
    assert not hasattr(clone(model), "engine_")
    grid = VectorizedGridSearchCV(model, {"lr": [0.01, 0.1]}, cv=2)
    assert grid.fit(X, TARGET[cls]).best_estimator_.engine_ == "torch"


def searched(model):
    grid = {"lr": [0.01, 0.1]}
    return VectorizedGridSearchCV(model, grid, cv=2).fit(X, y).best_estimator_


# Fits of which someone is told, or that someone may end.
WATCHED = {
    "callback of epochs": lambda model: model.set_callbacks(WeightTrajectory()).fit(
        X, y
    ),
    "clock": lambda model: model.set_params(max_time=1000.0).fit(X, y),
    "held out": lambda model: model.set_params(early_stopping=True).fit(X, y),
    "stream": lambda model: model.partial_fit(X, y),
    "last of a search": searched,
}


@pytest.mark.skipif(bool(engines.why_no_numba()), reason="no numba on this machine")
@pytest.mark.parametrize("fit", WATCHED.values(), ids=WATCHED)
def test_the_loops_train_what_is_looked_on_at(fit):
    """In earnest, to the weights of torch."""
    model, other = (fit(small(MiniBatchRegressor, engine=e)) for e in ("auto", "torch"))
    assert (model.engine_, other.engine_) == ("numba", "torch")
    assert_same_layers(model, other, rtol=1e-9)
