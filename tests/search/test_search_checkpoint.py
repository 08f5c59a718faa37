"""Searches that go on after they were killed: what is kept, read, and told apart.

The oracle of a search that went on is the same search that was left alone.
"""

import os
import warnings
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import WEIGHT, X, frozen, small
from search_cases import CLASSIFIER, REGRESSOR, SEARCHES, labels, search_of, y
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators import checkpoints
from skgd._machine.trees import decode, encode
from skgd._search import evaluation
from skgd._search.fingerprints import fingerprint_of
from skgd._search.pipelines import last_step
from skgd._training import compiled

LR = {"lr": [0.001, 0.01, 0.1]}
PIPELINE = Pipeline([("scale", StandardScaler()), ("model", clone(CLASSIFIER))])
MANY = {"lr": [0.001, 0.01, 0.03, 0.1]}
CASES = {
    "a grid in threads": ("grid", REGRESSOR, LR, {"n_jobs": 2}),
    "several scores of a pipeline": (
        "random",
        PIPELINE,
        {"model__lr": [0.01, 0.1], "scale__with_mean": [True, False]},
        {
            "scoring": ["accuracy", "neg_log_loss"],
            "refit": "accuracy",
            "return_train_score": True,
        },
    ),
    "stacks on torch": ("grid", small(MiniBatchClassifier, engine="torch"), LR, {}),
    "one at a time": ("grid", small(MiniBatchRegressor, max_time=1e9), LR, {}),
    "some diverge": (
        "grid",
        small(MiniBatchRegressor, optimizer="sgd"),
        {"lr": [0.01, 1e6]},
        {"error_score": -5.0},
    ),
    "halving goes on": (
        "halving grid",
        small(MiniBatchRegressor, average=True),
        MANY,
        {},
    ),
    "halving by rows": (
        "halving random",
        CLASSIFIER,
        MANY,
        {"resource": "n_samples", "max_resources": 60, "min_resources": 30},
    ),
}


def new_search(case):
    """Return the search of a case, and its targets."""
    kind, estimator, space, params = CASES[case]
    ours, _, own = SEARCHES[kind]
    search = ours(clone(estimator), space, **{"cv": KFold(2), **own, **params})
    return search, y if isinstance(estimator, MiniBatchRegressor) else labels


def results(search, times=True):
    """Return all that a search has found, to compare bit by bit."""
    told = {
        name: values
        for name, values in search.cv_results_.items()
        if times or not name.endswith("_time")
    }
    params = told.pop("params")
    told = {name: np.ma.getdata(values) for name, values in told.items()}
    return frozen(told), params, frozen(search.loss_curves_), search.groups_


def files_in(directory):
    """Return what is kept of jobs."""
    files = [path for path in Path(directory).iterdir() if "refit" not in path.name]
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def kept(monkeypatch):
    """Give how many models each job keeps from now on, and after how many to end."""
    found, keep = [], evaluation.keep

    def keep_and_note(of_round, new):
        keep(of_round, new)
        found.append(len(new))
        if len(found) == kill_after[0]:
            raise KeyboardInterrupt

    kill_after = [None]
    monkeypatch.setattr(evaluation, "keep", keep_and_note)
    return found, kill_after


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:.*successfully executed:UserWarning:joblib")
@pytest.mark.parametrize("case", CASES)
def test_a_search_that_was_killed_goes_on(case, kept, tmp_path):
    """What was done is not done again, and all is as if nothing had been."""
    found, kill_after = kept
    search, targets = new_search(case)
    whole = search.fit(X, targets, checkpoint=tmp_path / "whole")
    n_jobs, n_models = len(found), sum(found)
    assert n_jobs == len(files_in(tmp_path / "whole")) > 1

    found.clear()
    kill_after[0] = n_jobs // 2 + 1
    with pytest.raises(KeyboardInterrupt) as error:
        new_search(case)[0].fit(X, targets, checkpoint=str(tmp_path / "killed"))
    assert "killed" in error.value.__notes__[0]
    before = files_in(tmp_path / "killed")
    n_before = sum(found)

    found.clear()
    kill_after[0] = None
    search = new_search(case)[0].fit(X, targets, checkpoint=tmp_path / "killed")
    assert results(search, times=False) == results(whole, times=False)
    assert search.best_params_ == whole.best_params_
    assert frozen(search.predict(X)) == frozen(whole.predict(X))
    assert sum(found) == n_models - n_before
    after = files_in(tmp_path / "killed")
    assert before.items() <= after.items()
    whole_names = {path.name for path in files_in(tmp_path / "whole")}
    assert {path.name for path in after} == whole_names

    found.clear()  # and now all is there, the times too
    again = new_search(case)[0].fit(X, targets, checkpoint=tmp_path / "killed")
    assert results(again) == results(search)
    assert not found


@pytest.mark.parametrize("estimator", [REGRESSOR, PIPELINE], ids=["model", "pipeline"])
def test_a_last_fit_that_was_killed_goes_on(estimator, tmp_path, monkeypatch):
    """The best candidate is kept as any fit is, and comes to the same bits."""
    of_pipeline = estimator is PIPELINE
    name, targets = ("model__lr", labels) if of_pipeline else ("lr", y)
    write, at = checkpoints.write_atomically, []

    def fit(**given):
        best = search_of(estimator, {name: [0.1, 0.01]}).fit(X, targets, **given)
        _, last = last_step(best.best_estimator_)
        return frozen({n: v for n, v in vars(last).items() if n != "time_curve_"})

    def killing(path, data):
        write(path, data)
        kept = decode(data)["progress"]
        at.append(kept["t"] + (len(kept["point"]["losses"]) if kept["point"] else 0))
        if len(at) == 5:
            raise KeyboardInterrupt

    alone, seconds = fit(), count(step=100.0)
    monkeypatch.setattr(checkpoints, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(compiled, "_AT_ONCE_S", 1e-9)
    monkeypatch.setattr(checkpoints, "write_atomically", killing)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path)
    assert fit(checkpoint=tmp_path) == alone
    assert at[0] == 0 < at[4] == at[5] < at[-1]


def test_a_search_goes_on_with_more_candidates_and_other_workers(
    kept, tmp_path, capsys
):
    """What is kept is found by candidate and split, whatever job it was in."""
    found, _ = kept
    search_of(REGRESSOR, {"lr": [0.01, 0.1]}).fit(X, y, checkpoint=tmp_path)
    found.clear()
    more = search_of(REGRESSOR, LR, n_jobs=2, refit=False, verbose=1)
    more.set_params(max_bytes=1).fit(X, y, checkpoint=tmp_path)
    assert sum(found) == 2
    assert f"4 of 6 models are read from {tmp_path}" in capsys.readouterr().out
    alone = search_of(REGRESSOR, LR).fit(X, y)
    scores = [one.cv_results_["split1_test_score"] for one in (more, alone)]
    np.testing.assert_allclose(*scores, rtol=1e-12)


def test_a_damaged_file_costs_its_job(kept, tmp_path):
    """A warning names it; its job is done anew, and its file is whole again."""
    found, _ = kept
    search = search_of(REGRESSOR, LR).fit(X, y, checkpoint=tmp_path)
    n_jobs, before = len(found), files_in(tmp_path)
    whole = results(search, times=False)
    cut, flipped, other = sorted(before)[:3]
    cut.write_bytes(before[cut][:-1])
    flipped.write_bytes(before[flipped][:99] + b"?" + before[flipped][100:])
    MiniBatchRegressor().save(other)
    found.clear()
    with pytest.warns(UserWarning, match="is not read") as told:
        search = search_of(REGRESSOR, LR).fit(X, y, checkpoint=tmp_path)
    for path, one in zip((cut, flipped, other), told, strict=True):
        assert repr(str(path)) in str(one.message)
    assert len(found) == 3 < n_jobs
    assert results(search, times=False) == whole
    found.clear()
    search_of(REGRESSOR, LR).fit(X, y, checkpoint=tmp_path)
    assert not found


def test_a_history_that_no_training_has_left_is_not_gone_on_with(tmp_path):
    """Its file is read no more than a damaged one, and its models begin anew."""
    search, targets = new_search("halving goes on")
    whole = results(search.fit(X, targets, checkpoint=tmp_path), times=False)
    for path, data in files_in(tmp_path).items():
        cells = decode(data)
        for cell in cells:
            if cell["outcome"] is not None:
                cell["outcome"]["history"]["t"] = ["many"]
        path.write_bytes(encode(cells))
    search, _ = new_search("halving goes on")
    with pytest.warns(UserWarning, match="is not read"):
        search.fit(X, targets, checkpoint=tmp_path)
    assert results(search, times=False) == whole


def scored(estimator, rows, targets):
    return -1.0


CHANGES = {
    "X": {"data": (X + 1e-9, y, {})},
    "y": {"data": (X, y + 1e-9, {})},
    "weights": {"data": (X, y, {"sample_weight": WEIGHT})},
    "a parameter": {"estimator": small(MiniBatchRegressor, l1_ratio=0.5)},
    "the splits": {"cv": KFold(2, shuffle=True, random_state=0)},
    "scoring": {"scoring": scored},
    "train scores": {"return_train_score": True},
    "error_score": {"error_score": 0.0},
    "candidates": {"space": {"lr": [0.002]}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_results_of_anything_else_are_let_be(change, kept, tmp_path):
    """Nothing is read that belongs to another search, and its file stays."""
    found, _ = kept
    asked = {"estimator": REGRESSOR, "space": {"lr": [0.001]}, "data": (X, y, {})}

    def fit(asked):
        params = {name: one for name, one in asked.items() if name not in ("data",)}
        *data, weights = asked["data"]
        search_of(**params).fit(*data, checkpoint=tmp_path, **weights)

    fit(asked)
    before, n_models = files_in(tmp_path), sum(found)
    fit({**asked, **CHANGES[change]})
    assert sum(found) == 2 * n_models
    assert before.items() < files_in(tmp_path).items()


def test_what_a_file_has_no_place_for_is_told(kept, tmp_path):
    """A search by scores of a kind of their own ends, and says what is not kept."""
    search = search_of(REGRESSOR, {"lr": [0.1]}, scoring=lambda *_: Fraction(1, 3))
    with pytest.warns(UserWarning, match="not kept in .*Fraction"):
        search.fit(X, y, checkpoint=tmp_path)
    assert search.best_score_ == 1 / 3
    assert not files_in(tmp_path)


# What is told apart


def function(constant, default=0):
    return lambda t, more=default: constant / t + more


def frame(**more):
    words = pd.Series(["a", "b", None] * 20, dtype="category")
    return pd.DataFrame(X, columns=list("abcd")).assign(words=words, **more)


def looked_at(sparse):
    """Return sparse rows that know more of themselves than they did."""
    assert sparse.has_canonical_format
    return sparse


CSR = partial(scipy.sparse.csr_array, X * (X > 0))
PANDAS = StandardScaler().set_output(transform="pandas")
FITTED = StandardScaler().fit(X)
ALIKE = {
    "floats": (lambda: [0.1, float("nan"), -0.0], [0.1, float("nan"), 0.0]),
    "kinds of numbers": (lambda: (1, True, None), (1.0, True, None)),
    "precision": (lambda: X.copy(order="F"), X.astype(np.float32)),
    "a shape": (lambda: X[:, ::-1][:, ::-1], X.reshape(4, -1)),
    "texts": (lambda: np.array(["a", "bc"], object), np.array(["ab", "c"], object)),
    "lists": (lambda: [[1], [2]], [[1, 2]]),
    "sets": (lambda: {"a", "b", "c", "d"}, {"a", "b", "c"}),
    "order of a dict": (lambda: {"b": 1, "a": 2}, {"a": 1, "b": 2}),
    "a frame": (frame, frame(more=1)),
    "columns": (frame, frame().rename(columns={"a": "z"})),
    "sparse rows": (lambda: looked_at(CSR()), CSR(shape=(60, 5))),
    "tensors": (lambda: torch.tensor(X).bfloat16(), torch.tensor(X).half()),
    "a stream": (
        lambda: np.random.RandomState(0),
        np.random.RandomState(np.random.MT19937(1)),
    ),
    "a constant": (lambda: function(0.1), function(0.2)),
    "a default": (lambda: function(0.1, 1), function(0.1, 2)),
    "a parameter": (lambda: StandardScaler(), StandardScaler(with_std=False)),
    "a class": (lambda: MiniBatchRegressor(), MiniBatchClassifier()),
    "what comes out": (lambda: clone(PANDAS), StandardScaler()),
    "what was fitted": (
        lambda: FrozenEstimator(FITTED),
        FrozenEstimator(StandardScaler().fit(2 * X)),
    ),
}


@pytest.mark.parametrize(("make", "other"), ALIKE.values(), ids=ALIKE)
def test_what_holds_the_same_is_the_same(make, other):
    """Two values have one fingerprint if they are alike, and else two."""
    assert fingerprint_of(make()) == fingerprint_of(make()) != fingerprint_of(other)


def test_a_fingerprint_is_the_same_in_every_process():
    """Order of hashes and addresses do not show; these are of another process."""
    value = {"b": {"x", "y", "z"}, "a": [1, 2.5, "word", X.shape, np.arange(3.0)]}
    assert fingerprint_of(value)[:16] == "41b6ec67a48f2c01"


# What is refused


@pytest.mark.parametrize(
    ("checkpoint", "kind", "words"),
    [
        (3, TypeError, "must be the path of a directory, or None. Got 3"),
        ("", TypeError, "Got ''"),
        (__file__, NotADirectoryError, "is a file or lies in one"),
        (f"{__file__}/more", NotADirectoryError, "is a file or lies in one"),
    ],
)
def test_what_is_no_directory_is_refused(checkpoint, kind, words):
    """Before anything is trained."""
    search = search_of(REGRESSOR)
    with pytest.raises(kind, match=words):
        search.fit(X, y, checkpoint=checkpoint)
    assert not hasattr(search, "cv_results_")


def test_a_directory_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    """The owner of all files may write anywhere, so the answer is put in its mouth.

    Nor is one that may not be made.
    """

    def makedirs(path, exist_ok):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "access", lambda *_: False)
    for _ in range(2):
        with pytest.raises(PermissionError, match="may be read and written to"):
            search_of(REGRESSOR).fit(X, y, checkpoint=tmp_path)
        monkeypatch.setattr(os, "makedirs", makedirs)


def test_what_lies_in_the_directory_besides_is_let_be(tmp_path):
    """What a killed write leaves, and other names; a FIFO is no directory."""
    half = tmp_path / ".skgd-0123456789abcdef.tmp"
    half.write_bytes(b"half")
    search_of(REGRESSOR, {"lr": [0.1]}).fit(X, y, checkpoint=tmp_path)
    assert half.read_bytes() == b"half"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotADirectoryError, match="is a file or lies in one"):
        search_of(REGRESSOR).fit(X, y, checkpoint=tmp_path / "fifo")


def test_what_cannot_be_named_is_refused(tmp_path):
    """A scorer that holds a lock is not one that another process has."""
    lock = Lock()

    def scoring(estimator, rows, targets):
        return float(lock.locked())

    with pytest.raises(ValueError, match=r"scoring must be .* Got TypeError.*lock"):
        search_of(REGRESSOR, scoring=scoring).fit(X, y, checkpoint=tmp_path)


# Metadata


def test_a_checkpoint_is_no_metadata(tmp_path):
    """It is the search's alone: not asked for, not routed, not handed to a fit."""
    for ours, _, _ in SEARCHES.values():
        assert not hasattr(ours, "set_fit_request")
    with config_context(enable_metadata_routing=True):
        estimator = clone(REGRESSOR).set_fit_request(sample_weight=True)
        search = search_of(estimator.set_score_request(sample_weight=True))
        routing = search.get_metadata_routing()
        assert routing.consumes("fit", ["checkpoint", "sample_weight"]) == {
            "sample_weight"
        }
        search.fit(X, y, sample_weight=WEIGHT, checkpoint=tmp_path)
    routed = search.cv_results_["mean_test_score"]
    plain = search_of(REGRESSOR).fit(X, y, sample_weight=WEIGHT)
    np.testing.assert_allclose(routed, plain.cv_results_["mean_test_score"], rtol=1e-12)
    assert files_in(tmp_path)


def test_a_pipeline_around_a_search_hands_it_on(tmp_path):
    """As every parameter of the fit of a step, by the name of the step."""
    around = Pipeline([("scale", StandardScaler()), ("search", search_of(REGRESSOR))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        around.fit(X, y, search__checkpoint=tmp_path)
    assert files_in(tmp_path)
