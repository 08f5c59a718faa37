"""Memory that is not there: an error that names what to lower."""

import numpy as np
import pytest
import torch
from bad_cases import TARGET, assert_refused, stream, y
from conftest import X, every_class, small
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning

from skgd import MiniBatchRegressor, VectorizedGridSearchCV

NO_MEMORY = {
    "CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "NumPy": MemoryError("Unable to allocate 7.28 TiB for an array"),
}
TOO_LARGE = {
    "units": (
        {"hidden_layer_sizes": (50, 5)},
        1,
        "hidden_layer_sizes must be so small",
    ),
    "a whole batch": (
        {"hidden_layer_sizes": (9,), "batch_size": None},
        20,
        "batch_size=None must be so small .* Got 1200 rows of 10",
    ),
    "a large batch": (
        {"batch_size": 1100},
        20,
        "batch_size=1100 must .* Got 1100 rows",
    ),
    "features": ({}, 1, "X must have so few features .* Got 4 features"),
}


@every_class
@pytest.mark.parametrize("error", NO_MEMORY.values(), ids=NO_MEMORY)
@pytest.mark.parametrize(
    ("params", "n_times", "match"), TOO_LARGE.values(), ids=TOO_LARGE
)
def test_training_without_memory_names_what_to_lower(
    cls, error, params, n_times, match, monkeypatch
):
    """It is a MemoryError, wherever the memory is, and nothing has changed."""

    def train(*args):
        raise error

    rows, y = np.tile(X, (n_times, 1)), np.tile(two_of(TARGET[cls]), n_times)
    new = small(cls, **params)
    classes = {} if cls is MiniBatchRegressor else {"classes": [0, 1]}
    seen = clone(new).partial_fit(rows, y, **classes)
    for name in ("train", "train_on_chunk"):
        monkeypatch.setattr(f"skgd._estimators.fits.{name}", train)
    how = {"match": match, "error": MemoryError}
    assert_refused(new.fit, rows, y, **how)
    assert_refused(seen.fit, rows, y, **how)
    assert_refused(seen.partial_fit, rows, y, **how)


def two_of(target):
    """Return targets of one output: numbers, or two classes."""
    return (target > 0).astype(int) if target.dtype.kind == "i" else target


@every_class
@pytest.mark.parametrize(
    "sizes", [(10**15,), (2**62,), (2**40, 2**40)], ids=["bytes", "one", "two"]
)
def test_more_units_than_any_memory_holds_are_refused(cls, sizes):
    """So many weights, or so many bytes of them, cannot even be counted."""
    new, seen = small(cls, hidden_layer_sizes=sizes), stream(cls, warm_start=True)
    seen.set_params(hidden_layer_sizes=sizes)
    how = {"match": "hidden_layer_sizes must be so small", "error": MemoryError}
    assert_refused(new.fit, X, TARGET[cls], **how)
    how = {"match": "only with the layers it began with", "error": ValueError}
    assert_refused(seen.fit, X, TARGET[cls], **how)  # no array is asked for
    assert_refused(seen.partial_fit, X, TARGET[cls], **how)


def test_another_error_of_torch_is_told_as_it_is(monkeypatch):
    """Only what is said of memory is said in other words."""

    def train(*args):
        raise RuntimeError("an error of ours")

    monkeypatch.setattr("skgd._estimators.fits.train", train)
    model = small(MiniBatchRegressor)
    assert_refused(model.fit, X, y, match="^an error of ours$", error=RuntimeError)


@every_class
@pytest.mark.parametrize("max_bytes", [None, 10**12])
def test_a_stack_without_memory_names_max_bytes(cls, max_bytes, monkeypatch):
    """The search ends: one fit at a time would be another search."""

    def train(*args):
        raise NO_MEMORY["CPU"]

    monkeypatch.setattr("skgd._estimators.fits.train", train)
    grid = {"lr": [0.01, 0.1]}
    search = VectorizedGridSearchCV(small(cls), grid, cv=2, max_bytes=max_bytes)
    match = f"max_bytes must be so small .* Got {max_bytes}, for 4 models"
    with pytest.raises(MemoryError, match=match):
        search.fit(X, TARGET[cls])


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@every_class
def test_a_candidate_without_memory_gets_the_error_score(cls):
    """It fails alone, as it would in a search of scikit-learn, and says what it was."""
    grid = {"hidden_layer_sizes": [(3,), (10**15,)], "lr": [0.1]}
    search = VectorizedGridSearchCV(small(cls), grid, cv=2, refit=False)
    with pytest.warns(FitFailedWarning, match=r"MemoryError: hidden_layer_sizes must"):
        search.fit(X, TARGET[cls])
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    with pytest.raises(MemoryError, match="hidden_layer_sizes must be so small"):
        search.set_params(error_score="raise").fit(X, TARGET[cls])
