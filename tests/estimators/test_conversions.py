"""``lr`` and ``alpha`` in the terms of scikit-learn's descents, as the Notes say.

Where SGD* and MLP* take the same steps they end at the same numbers. The plain steps,
of the losses that all of them have, are in ``test_minima``; the strengths of
penalty of the solvers that do not descend in ``test_optima``.
"""

import numpy as np
import pytest
from conftest import (
    N_ROWS,
    TASKS,
    WEIGHT,
    X,
    Y,
    assert_same_layers,
    every_class,
    layers_of,
    settled,
    small,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skgd import MiniBatchClassifier, MiniBatchRegressor

y = Y[:, 0]
two_classes, three_classes = TASKS["two classes"][1], TASKS["three classes"][1]
several_labels = (np.column_stack([Y, Y.sum(axis=1)]) > [3, -1, 2]).astype(int)
TARGET = {MiniBatchRegressor: y, MiniBatchClassifier: two_classes}
PEER = {MiniBatchRegressor: SGDRegressor, MiniBatchClassifier: SGDClassifier}

# SGD*'s losses, all of them; log_loss of three classes is softmax here.
LOSSES = [
    (MiniBatchRegressor, "squared_error", y),
    (MiniBatchRegressor, "huber", y),
    (MiniBatchRegressor, "epsilon_insensitive", y),
    (MiniBatchRegressor, "squared_epsilon_insensitive", y),
    (MiniBatchClassifier, "log_loss", two_classes),
    *(
        (MiniBatchClassifier, loss, labels)
        for loss in ("hinge", "squared_hinge", "modified_huber", "perceptron")
        for labels in (two_classes, three_classes)
    ),
]
every_loss = pytest.mark.parametrize(
    ("cls", "loss", "targets"),
    LOSSES,
    ids=[f"{loss}, {len(np.unique(targets))} values" for _, loss, targets in LOSSES],
)


def both(cls, loss="default", **params):
    """Return an estimator of batches of one row, and SGD*'s, without a penalty."""
    alike = {"alpha": 0, "shuffle": False, **params}
    model = small(cls, optimizer="sgd", lr=0.02, batch_size=1, **alike)
    if cls is MiniBatchRegressor:
        model.set_params(normalize_y=False)
    peer = PEER[cls](learning_rate="constant", eta0=0.02, max_iter=3, tol=None, **alike)
    if cls is MiniBatchClassifier:
        peer.set_params(loss="log_loss")
    if loss != "default":
        model.set_params(loss=loss)
        peer.set_params(loss=loss)
    return model, peer


def assert_same_path(model, peer):
    """Assert that weights, intercepts and epochs are alike."""
    assert model.n_iter_ == peer.n_iter_
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_.ravel(), rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-9)


# SGDRegressor and SGDClassifier


@every_loss
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
def test_every_loss_takes_the_steps_of_sgd(cls, loss, targets, weight):
    """``lr`` is eta0, ``delta`` is epsilon; rows of relative weight count alike."""
    model, peer = both(cls, loss)
    if cls is MiniBatchRegressor:
        model.set_params(delta=0.4)
        peer.set_params(epsilon=0.4)
    relative = None if weight is None else weight / weight.mean()
    model.fit(X, targets, sample_weight=weight)
    assert_same_path(model, peer.fit(X, targets, sample_weight=relative))


@every_loss
@pytest.mark.parametrize("average", [True, 1, 7, 100, 3 * N_ROWS, 3 * N_ROWS + 1])
def test_averages_are_those_of_sgd(cls, loss, targets, average):
    """``average`` counts steps, which are rows there, from the same one on."""
    model, peer = both(cls, loss, average=average)
    assert_same_path(model.fit(X, targets), peer.fit(X, targets))


@every_class
@pytest.mark.parametrize("average", [False, 20])
@pytest.mark.parametrize("power_t", [0.25, 1.0])
def test_a_falling_rate_is_that_of_sgd(cls, power_t, average):
    """ "invscaling" divides by the same power of the step in a fit of 3 epochs."""
    model, peer = both(cls, power_t=power_t, average=average)
    model.set_params(lr_schedule="invscaling").fit(X, TARGET[cls])
    assert_same_path(
        model, peer.set_params(learning_rate="invscaling").fit(X, TARGET[cls])
    )


@every_class
def test_an_adaptive_rate_is_that_of_sgd(cls):
    """ "adaptive" divides by 5 after the same epochs; training ends sooner here."""
    model, peer = both(cls)
    patience = {"max_iter": 1000, "tol": 1e-3, "n_iter_no_change": 3}
    model.set_params(lr_schedule="adaptive", **patience).fit(X, TARGET[cls])
    peer.set_params(learning_rate="adaptive", **patience).fit(X, TARGET[cls])
    assert 6 < model.n_iter_ < peer.n_iter_ < 1000
    with pytest.warns(ConvergenceWarning, match="before convergence"):
        peer.set_params(max_iter=model.n_iter_).fit(X, TARGET[cls])
    assert_same_path(model, peer)


@pytest.mark.parametrize("class_weight", [{"yes": 3, "no": 0.5}, "balanced"])
def test_class_weights_are_those_of_sgd(class_weight):
    """What a class counts multiplies the step of its rows, up to the mean of all."""
    model, peer = both(MiniBatchClassifier, class_weight=class_weight)
    of_rows = np.ones(N_ROWS)
    if class_weight != "balanced":  # whose mean is 1
        of_rows = np.array([class_weight[label] for label in two_classes])
    peer.set_params(eta0=0.02 / of_rows.mean())
    assert_same_path(model.fit(X, two_classes), peer.fit(X, two_classes))


def test_the_perceptron_is_scikit_learns():
    """loss="perceptron" with steps of 1 is Perceptron."""
    model = small(MiniBatchClassifier, loss="perceptron", optimizer="sgd", lr=1.0)
    model.set_params(batch_size=1, shuffle=False, alpha=0)
    peer = Perceptron(shuffle=False, max_iter=3, tol=None)
    assert_same_path(model.fit(X, three_classes), peer.fit(X, three_classes))


# MLPRegressor and MLPClassifier

NETWORKS = {
    "regression": (MiniBatchRegressor, MLPRegressor(), Y, {}),
    "poisson": (
        MiniBatchRegressor,
        MLPRegressor(loss="poisson"),
        np.abs(np.rint(y)),
        {"loss": "poisson"},
    ),
    "two classes": (MiniBatchClassifier, MLPClassifier(), two_classes, {}),
    "three classes": (MiniBatchClassifier, MLPClassifier(), three_classes, {}),
    "several labels": (MiniBatchClassifier, MLPClassifier(), several_labels, {}),
}
every_network = pytest.mark.parametrize(
    ("cls", "peer", "targets", "params"), NETWORKS.values(), ids=NETWORKS
)

# Theirs has no correction of epsilon, so it must be next to nothing.
MLP_OPTIMIZERS = {
    "momentum": ({"momentum": 0.9}, {"momentum": 0.9, "nesterovs_momentum": False}),
    "nesterov": (
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "nesterovs_momentum": True},
    ),
    "adam": (
        {"optimizer": "adam", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-100},
        {"solver": "adam", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-100},
    ),
}


def both_networks(cls, peer, targets, **params):
    """Return a network and MLP*'s, one pass old, and the weights of the latter."""
    alike = {"hidden_layer_sizes": (5, 3), "activation": "tanh", "alpha": 0}
    alike = {**alike, "batch_size": 20, "shuffle": False, "random_state": 0, **params}
    peer = clone(peer).set_params(solver="sgd", momentum=0, **alike)
    model = small(cls, optimizer="sgd", **alike)
    if cls is MiniBatchRegressor:
        model.set_params(normalize_y=False)
    classes = {} if cls is MiniBatchRegressor else {"classes": np.unique(targets)}
    if targets is several_labels:
        classes = {"classes": [0, 1, 2]}
    peer.partial_fit(X, targets, **classes)
    del peer._optimizer  # it is made anew, with its parameters and its means
    starts = {
        "coefs_init": [coef.copy() for coef in peer.coefs_],
        "intercepts_init": [bias.copy() for bias in peer.intercepts_],
    }
    return model, peer, starts


@every_network
@pytest.mark.parametrize(
    ("ours", "theirs"), MLP_OPTIMIZERS.values(), ids=MLP_OPTIMIZERS
)
def test_networks_take_the_steps_of_mlp(cls, peer, targets, params, ours, theirs):
    """``lr`` is learning_rate_init, with the same momentum or the same means."""
    model, peer, starts = both_networks(cls, peer, targets)
    model.set_params(lr=0.01, **ours, **params).fit(X, targets, **starts)
    peer.set_params(learning_rate_init=0.01, **theirs)
    for _ in range(3):
        peer.partial_fit(X, targets)
    assert_same_layers(model, peer, rtol=1e-8, atol=1e-11)


@every_network
@pytest.mark.parametrize("batch_size", [20, N_ROWS])
def test_alpha_of_a_step_is_that_of_mlp_divided_by_the_rows(
    cls, peer, targets, params, batch_size
):
    """To first order a step with ``alpha`` is MLP*'s of alpha * rows of the batch."""
    lr, alpha = 1e-7, 0.5
    model, peer, starts = both_networks(
        cls, peer, targets, alpha=alpha * batch_size, batch_size=batch_size
    )
    model.set_params(alpha=alpha, lr=lr, max_iter=1, **params)
    model.fit(X, targets, **starts)
    free = clone(model).set_params(alpha=0).fit(X, targets, **starts)
    peer.set_params(learning_rate_init=lr).partial_fit(X, targets)
    for n, start in enumerate(starts["coefs_init"]):
        way, other = layers_of(model)[0][n] - start, peer.coefs_[n] - start
        np.testing.assert_allclose(way / lr, other / lr, rtol=1e-5, atol=1e-6)
        without = layers_of(free)[0][n] - start
        assert np.abs(way - without).max() > 0.1 * np.abs(way).max()


def test_a_network_at_rest_there_rests_here():
    """Where MLPRegressor ends by L-BFGS, descent at alpha / rows leads nowhere."""
    peer = MLPRegressor(hidden_layer_sizes=(4,), activation="tanh", solver="lbfgs")
    peer.set_params(alpha=6.0, tol=1e-14, max_iter=20_000, max_fun=10**6)
    peer.set_params(random_state=0).fit(X, y)
    starts = {"coefs_init": peer.coefs_, "intercepts_init": peer.intercepts_}
    model = settled(MiniBatchRegressor, optimizer="sgd", lr=0.05, alpha=6.0 / N_ROWS)
    model.set_params(hidden_layer_sizes=(4,), activation="tanh", max_iter=500)
    model.set_params(normalize_y=False)
    assert_same_layers(model.fit(X, y, **starts), peer, atol=2e-3)
    stray = clone(model).set_params(alpha=12.0 / N_ROWS).fit(X, y, **starts)
    assert np.abs(stray.coefs_[0] - peer.coefs_[0]).max() > 0.05
