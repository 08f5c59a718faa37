"""Batch regimes: whole batch, single rows, mini-batches; the last batch; shuffling.

The rows of a batch are read off ``batch_loss_curve_``: a model that starts at zero and
does not move has the loss y^2 / 2 at each row, and with the targets here the sum of the
losses over a batch, as a number to base 8, counts how often each row was in it.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import (
    NEGATIVE_SLOPE,
    OPTIMIZERS,
    TORCH_ACTIVATIONS,
    every_engine,
    fitted_state,
    layers_of,
    on_both_engines,
    real_devices,
    small,
)
from covering import every_pair
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch.nn import functional

import skgd._equations.activations
import skgd._equations.optimizers
from skgd import MiniBatchClassifier, MiniBatchRegressor

# Three epochs from random weights may well end far off.
pytestmark = [
    on_both_engines,
    pytest.mark.filterwarnings("ignore:Training ended with a loss"),
]

N = 10
BASE = 8  # above the number of times that a row can be in a batch
rng = np.random.default_rng(3)
X = rng.normal(size=(N, 3))
TARGET_OF_ROW = np.sqrt(2.0 * BASE ** np.arange(N))

# Each: batch_size, last_batch, and the sizes of the batches of an epoch of 10 rows.
REGIMES = {
    "whole": (None, "keep", [10]),
    "whole, as a number": (10, "drop", [10]),
    "stochastic": (1, "fill", [1] * 10),
    "dividing": (5, "keep", [5, 5]),
    "dividing, drop": (5, "drop", [5, 5]),
    "dividing, fill": (5, "fill", [5, 5]),
    "keep": (4, "keep", [4, 4, 2]),
    "keep, one left": (3, "keep", [3, 3, 3, 1]),
    "drop": (4, "drop", [4, 4]),
    "drop, most": (6, "drop", [6]),
    "fill": (4, "fill", [4, 4, 4]),
    "fill, most": (6, "fill", [6, 6]),
}
every_regime = pytest.mark.parametrize(
    ("batch_size", "last_batch", "sizes"), REGIMES.values(), ids=REGIMES
)
shuffled_or_not = pytest.mark.parametrize(
    "shuffle", [True, False], ids=["shuffled", "in order"]
)


def counts_of_batches(sizes, hidden=(), n_outputs=1, **params):
    """Return how often each row was in each batch: an array (epochs, batches, rows)."""
    still = {"optimizer": "sgd", "lr": 1e-300, "alpha": 0, "record_batch_loss": True}
    spy = small(MiniBatchRegressor, hidden_layer_sizes=hidden, **still, **params)
    spy.set_params(normalize_y=False)
    targets = np.zeros((N, n_outputs))
    targets[:, 0] = TARGET_OF_ROW
    zeros = [np.zeros(pair) for pair in pairwise([X.shape[1], *hidden, n_outputs])]
    spy.fit(X, targets, **({"coefs_init": zeros} if hidden else {}))
    sums = spy.batch_loss_curve_.reshape(spy.n_iter_, len(sizes)) * sizes
    assert np.allclose(sums, np.rint(sums), rtol=1e-12)
    return (
        np.rint(sums).astype(np.int64)[..., np.newaxis] // BASE ** np.arange(N) % BASE
    )


@every_regime
@shuffled_or_not
def test_an_epoch_is_made_of_the_rows_that_the_regime_says(
    batch_size, last_batch, sizes, shuffle
):
    """Every row comes once an epoch, but for those dropped or drawn to fill."""
    params = {"batch_size": batch_size, "last_batch": last_batch, "shuffle": shuffle}
    epochs = counts_of_batches(sizes, **params, max_iter=5)
    times = epochs.sum(axis=1)
    assert (epochs.sum(axis=2) == sizes).all()
    assert (times.max() if last_batch == "drop" else times.min()) == 1


@every_regime
def test_steps_are_counted(batch_size, last_batch, sizes):
    """t_ is the number of batches, epoch by epoch, and each has its recorded loss."""
    model = small(MiniBatchRegressor, batch_size=batch_size, last_batch=last_batch)
    model.set_params(record_batch_loss=True).fit(X, X[:, 0])
    assert model.t_ == len(model.batch_loss_curve_) == 3 * len(sizes)
    model.partial_fit(X, X[:, 0])
    assert model.t_ == len(model.batch_loss_curve_) == 4 * len(sizes)


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_without_shuffle_rows_come_in_their_order(batch_size):
    """The batches of every epoch are consecutive rows, from the first on."""
    sizes = [batch_size] * (N // batch_size)
    params = {"batch_size": batch_size, "last_batch": "drop", "shuffle": False}
    for epoch in counts_of_batches(sizes, **params):
        rows = np.concatenate([np.flatnonzero(counts) for counts in epoch])
        assert np.array_equal(rows, np.arange(sum(sizes)))


def test_with_shuffle_every_epoch_has_an_order_of_its_own():
    """Orders differ between epochs and seeds, and no row has a place of its own."""
    params = {"batch_size": 1, "max_iter": 200}
    one = counts_of_batches([1] * N, **params).argmax(axis=2)
    other = counts_of_batches([1] * N, **params, random_state=1).argmax(axis=2)
    assert len({tuple(order) for order in one}) == 200
    assert not (one == other).all(axis=1).any()
    # 20 of 200 epochs on average; 6 standard deviations, of 4.2, never happen
    places = np.array([(one == row).sum(axis=0) for row in range(N)])
    assert places.min() > 0
    assert places.max() < 46


@pytest.mark.parametrize("shuffle", [True, False])
def test_fill_draws_from_the_whole_set(shuffle):
    """The rows that top up the last batch are any rows, all of them alike."""
    params = {
        "batch_size": 6,
        "last_batch": "fill",
        "shuffle": shuffle,
        "max_iter": 300,
    }
    drawn = counts_of_batches([6, 6], **params).sum(axis=1) - 1
    assert (drawn.sum(axis=1) == 2).all()
    # 60 of 600 draws on average; 6 standard deviations, of 7.3, never happen
    assert drawn.sum(axis=0).min() > 16
    assert drawn.sum(axis=0).max() < 104


def test_drop_leaves_out_others_each_epoch():
    """With shuffling no row is left out for good."""
    params = {"batch_size": 6, "last_batch": "drop", "max_iter": 100}
    assert (counts_of_batches([6], **params).sum(axis=(0, 1)) > 0).all()


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("cls", [MiniBatchRegressor, MiniBatchClassifier])
def test_more_than_there_are_rows_is_all_of_them(cls, last_batch):
    """A larger batch size is batch_size=None, and fit says so once."""
    y = np.arange(N) % 2
    whole = small(cls, batch_size=None, last_batch=last_batch).fit(X, y)
    large = small(cls, batch_size=N + 1, last_batch=last_batch)
    with pytest.warns(
        UserWarning, match="batch_size=11 is larger than the 10"
    ) as record:
        large.fit(X, y)
    assert len(record) == 1
    assert fitted_state(large) == fitted_state(whole)


def test_a_chunk_may_be_smaller_than_a_batch():
    """partial_fit takes the chunks as they come, without a warning."""
    large = small(MiniBatchRegressor, batch_size=100).partial_fit(X, X[:, 0])
    whole = small(MiniBatchRegressor, batch_size=None).partial_fit(X, X[:, 0])
    assert fitted_state(large) == fitted_state(whole)
    assert large.t_ == 1


# The same batches through torch.optim and autograd

LOSSES = {
    "squared error": (
        MiniBatchRegressor,
        rng.normal(size=(N, 2)),
        lambda z, y: functional.mse_loss(z, y, reduction="sum") / (2 * len(y)),
    ),
    "two classes": (
        MiniBatchClassifier,
        np.arange(N) % 2,
        lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.double()),
    ),
    "three classes": (MiniBatchClassifier, np.arange(N) % 3, functional.cross_entropy),
}
TORCH_OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
    "nesterov": lambda params: torch.optim.SGD(
        params, lr=0.05, momentum=0.9, nesterov=True
    ),
    "adagrad": lambda params: torch.optim.Adagrad(params, lr=0.05, eps=1e-4),
    "rmsprop": lambda params: torch.optim.RMSprop(
        params, lr=0.05, alpha=0.95, eps=1e-4
    ),
    "adam": lambda params: torch.optim.Adam(
        params, lr=0.05, betas=(0.8, 0.95), eps=1e-4
    ),
    "adamw": lambda params: torch.optim.AdamW(
        params, lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0
    ),
}
OF_TORCH = {"lr": 0.05, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4}


def trained_by_torch(starts, batches, y, *, loss, activation, optimizer):
    """Return weights and biases after a step of torch.optim for each batch."""
    coefs, intercepts = [
        [torch.tensor(a, requires_grad=True) for a in arrays] for arrays in starts
    ]
    steps = TORCH_OPTIMIZERS[optimizer]([*coefs, *intercepts])
    for rows in batches:
        z = torch.from_numpy(X[rows])
        for n, (w, bias) in enumerate(zip(coefs, intercepts, strict=True)):
            z = functional.linear(activation(z) if n else z, w.T, bias)
        steps.zero_grad()
        loss(z, torch.from_numpy(y[rows])).backward()
        steps.step()
    return [a.detach().numpy() for a in [*coefs, *intercepts]]


def assert_trained_as_by_torch(kind, hidden, optimizer, sizes, **params):
    """Assert that 3 epochs from random weights end where those of torch end."""
    cls, y, loss = LOSSES[kind]
    n_outputs = {"squared error": 2, "two classes": 1, "three classes": 3}[kind]
    counts = counts_of_batches(sizes, hidden, n_outputs, **params).reshape(-1, N)
    batches = [np.repeat(np.arange(N), count) for count in counts]

    units = [X.shape[1], *hidden, n_outputs]
    draw = np.random.default_rng(0).normal
    coefs = [draw(size=pair) for pair in pairwise(units)]
    intercepts = [draw(size=n) for n in units[1:]]
    init = (
        {"coefs_init": coefs, "intercepts_init": intercepts}
        if hidden
        else {"coef_init": coefs[0].T, "intercept_init": intercepts[0]}
    )
    activation = params.pop("activation", "tanh")
    model = small(cls, **{**OPTIMIZERS[optimizer], **OF_TORCH}, alpha=0, **params)
    if cls is MiniBatchRegressor:
        model.set_params(normalize_y=False)
    model.set_params(
        hidden_layer_sizes=hidden, activation=activation, negative_slope=NEGATIVE_SLOPE
    )
    model.fit(X, y, **init)
    expected = trained_by_torch(
        (coefs, intercepts),
        batches,
        y,
        loss=loss,
        activation=TORCH_ACTIVATIONS[activation],
        optimizer=optimizer,
    )
    fitted_coefs, fitted_intercepts = layers_of(model)
    for array, other in zip([*fitted_coefs, *fitted_intercepts], expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-10, atol=1e-10)


@every_pair(
    every_regime,
    shuffled_or_not,
    pytest.mark.parametrize("hidden", [(), (4, 3)], ids=["linear", "network"]),
    pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS),
    every_engine,
)
def test_every_regime_takes_the_steps_of_torch(
    batch_size, last_batch, sizes, shuffle, hidden, optimizer
):
    """autograd and torch.optim on the same batches, short ones included, end alike."""
    regime = {"batch_size": batch_size, "last_batch": last_batch, "shuffle": shuffle}
    assert_trained_as_by_torch("squared error", hidden, optimizer, sizes, **regime)


@real_devices
@every_pair(
    pytest.mark.parametrize("kind", LOSSES),
    pytest.mark.parametrize("hidden", [(), (4, 3, 2)], ids=str),
    pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS),
    every_engine,
)
def test_every_loss_takes_the_steps_of_torch(kind, hidden, optimizer, device):
    """Losses of torch lead models of any depth to the same weights."""
    params = {"batch_size": 4, "device": device}
    assert_trained_as_by_torch(kind, hidden, optimizer, [4, 4, 2], **params)


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
def test_every_activation_takes_the_steps_of_torch(activation):
    """Activations of torch lead networks to the same weights."""
    params = {"batch_size": 4, "activation": activation}
    assert_trained_as_by_torch("three classes", (4, 3), "sgd", [4, 4, 2], **params)


def test_the_tables_of_torch_are_complete():
    """What the package offers has its counterpart of torch here."""
    assert TORCH_OPTIMIZERS.keys() == skgd._equations.optimizers.OPTIMIZERS.keys()
    assert TORCH_ACTIVATIONS.keys() == skgd._equations.activations.ACTIVATIONS.keys()


# Searches over the regimes


@pytest.mark.filterwarnings("ignore:batch_size=11 is larger:UserWarning")
@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": [None, 1, 3, 11]},
        {"batch_size": [3], "last_batch": ["keep", "drop", "fill"]},
        {"batch_size": [1, None], "shuffle": [True, False]},
    ],
    ids=lambda values: " and ".join(values),
)
def test_a_grid_may_hold_every_regime(values):
    """GridSearchCV over a parameter of the regime gives each its own scores."""
    model, y = small(MiniBatchRegressor, lr=0.05), X @ [1, 2, 3]
    search = GridSearchCV(model, values, cv=2).fit(X, y)
    results = search.cv_results_
    for params, mean in zip(results["params"], results["mean_test_score"], strict=True):
        apart = cross_val_score(clone(model).set_params(**params), X, y, cv=2)
        assert mean == pytest.approx(apart.mean())
    whole = [p["batch_size"] in (None, 11) for p in results["params"]]
    scores = results["mean_test_score"][~np.array(whole)]
    assert len(set(scores)) == len(scores)
