"""Searches by compiled loops: in company, a model takes the steps that it takes alone.

So each is bit for bit what a fit of its own finds. Scores are rounded otherwise: they
are of predictions that are made for many models at once.
"""

from contextlib import nullcontext

import numpy as np
import pytest
from conftest import (
    OPTIMIZERS,
    WEIGHT,
    X,
    Y,
    frozen,
    layers_of,
    needs_numba,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._search.stacks import TrainingSplit, fit_together
from skgd._training.csr import NARROW

pytestmark = [
    needs_numba,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

# Folds of 43, 44 and 45 rows have as many batches of 8, and not of 11; the last one is
# of its own in any case.
TRAIN = [np.arange(43), np.arange(16, 60), np.arange(0, 45), np.arange(20)]
THREE = np.digitize(Y[:, 0], [2, 4])
ROWS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "sparse": lambda X: sparse.csr_array(X * (X > -0.5)),
    "wide": lambda X: sparse.csr_array(
        (X.ravel(), np.indices(X.shape).reshape(2, -1) * [[1], [1500]]),
        shape=(len(X), NARROW + 1000),
    ),
}
TARGETS = {
    "number": (MiniBatchRegressor, Y[:, 0]),
    "numbers": (MiniBatchRegressor, Y * [1, 100]),
    "two classes": (MiniBatchClassifier, THREE > 0),
    "three classes": (MiniBatchClassifier, THREE),
    "labels": (MiniBatchClassifier, (Y.mean(0) < Y).astype(int)),
}


def one_of(*values):
    return st.sampled_from(values)


@st.composite
def searches(draw):
    """Draw an estimator, three candidates, their rows, targets and weights."""
    kind, (cls, y) = draw(one_of(*ROWS)), TARGETS[draw(one_of(*TARGETS))]
    wide, optimizer = kind == "wide", draw(one_of(*OPTIMIZERS.values()))
    stops = draw(one_of(None, None, "tol", "loss", "score"))
    dtype = draw(one_of("float64", "float32"))
    params = {**optimizer, "max_iter": 4}
    if stops is not None:
        params |= {"max_iter": 12, "n_iter_no_change": 1, "tol": 0.02}
    if stops in ("loss", "score"):
        params |= {"early_stopping": True, "validation_fraction": 0.3}
        params |= {"scoring": "loss" if stops == "loss" else None}
        dtype = "float64"  # so that rounding does not say which epoch was the best
    if cls is MiniBatchRegressor:
        params["normalize_y"] = draw(st.booleans())
    model = small(
        cls,
        **params,
        engine="numba",
        hidden_layer_sizes=() if wide else draw(one_of((), (), (5,), (4, 3))),
        batch_size=draw(one_of(8, 11, None)),
        last_batch=draw(one_of("keep", "drop", "fill")),
        average=False if wide else draw(one_of(False, False, True, 5)),
        max_grad_norm=None if wide else draw(one_of(None, None, 0.5)),
        lr_schedule=draw(one_of("constant", "adaptive", "adaptive", "cosine", "step")),
        fit_intercept=draw(st.booleans()),
        shuffle=draw(st.booleans()),
        record_batch_loss=True,
    )
    lr, alphas = optimizer["lr"], draw(one_of((0, 0.1, 1e-3), (0, 0, 0)))
    candidates = [
        clone(model).set_params(lr=lr * factor, alpha=alpha, random_state=seed)
        for factor, alpha, seed in zip(
            (0.003, 0.1, 0.03), alphas, draw(one_of((0, 0, 0), (0, 1, 0))), strict=True
        )
    ]
    weight = draw(one_of(None, WEIGHT))
    return candidates, ROWS[kind](X.astype(dtype)), y, weight


def left_by(model):
    """Return what a fit leaves but for the random stream, the time and the scores."""
    state = {**vars(model)["_state_"]}
    state.pop("generator")
    curves = ("loss_curve_", "batch_loss_curve_", "t_", "n_iter_", "best_iter_")
    found = {name: getattr(model, name, None) for name in curves}
    return frozen({**found, "layers": layers_of(model), "state": state})


@given(searches())
@settings(max_examples=40)
def test_company_changes_no_bit(drawn):
    """Of whatever is trained, how, on folds of unlike lengths."""
    candidates, rows, y, weight = drawn
    splits = [TrainingSplit(rows, y, weight, train, list) for train in TRAIN]
    seen = set()
    for one in fit_together(
        candidates, splits, watching=lambda *_: nullcontext(), max_bytes=10**9
    ):
        assert one.engine == "numba"
        train = TRAIN[one.split]
        alone = clone(candidates[one.candidate])
        seen.add((one.split, one.candidate))
        some = None if weight is None else weight[train]
        if one.error is not None:
            with pytest.raises(ValueError, match="diverged") as raised:
                alone.fit(rows[train], y[train], some)
            assert str(raised.value) == str(one.error)
            continue
        alone.fit(rows[train], y[train], some)
        assert left_by(one.estimator) == left_by(alone)
    assert len(seen) == len(candidates) * len(splits)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_what_has_diverged_stays_so_in_company(engine):
    """Alone it ends there; later epochs, at a smaller rate, would bring it back."""
    model = small(
        MiniBatchRegressor,
        engine=engine,
        optimizer="sgd",
        momentum=0.0,
        batch_size=None,
        max_iter=60,
        lr_schedule=lambda step: 1.0 if step < 8 else 0.05,
    )
    candidates = [clone(model).set_params(lr=lr) for lr in (5.0, 0.05)]
    splits = [TrainingSplit(X, Y[:, 0], None, np.arange(40), list)]
    wild, tame = fit_together(
        candidates, splits, watching=lambda *_: nullcontext(), max_bytes=10**9
    )
    with pytest.raises(ValueError, match=r"diverged in epoch \d:") as raised:
        candidates[0].fit(X[:40], Y[:40, 0])
    assert str(wild.error) == str(raised.value)
    assert len(wild.history.loss) < len(tame.history.loss) == 60
    assert tame.error is None
