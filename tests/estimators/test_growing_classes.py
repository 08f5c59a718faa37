"""Classes that become more in a stream: new outputs begin at zero, the others go on."""

import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import (
    N_FEATURES,
    N_ROWS,
    OPTIMIZERS,
    X,
    Y,
    assert_same_layers,
    every_depth,
    every_engine,
    every_optimizer,
    fitted_state,
    layers_of,
    on_both_engines,
    small,
    state_but_for_seen,
)
from covering import every_pair
from scipy import sparse
from sklearn.utils.class_weight import compute_class_weight
from torch import optim

import skgd._training.csr
from skgd import MiniBatchClassifier, WeightTrajectory
from skgd._estimators.parameters import LOSSES_OF_CLASSES

pytestmark = on_both_engines

# All classes in the end, and those of the beginning: the new ones come in between.
ALL = np.array([-4, -1, 2, 5, 7])
FIRST = {"two": ALL[[1, 3]], "three": ALL[[0, 1, 3]]}
LABELS = ALL[np.digitize(Y[:, 0], [1, 2.5, 3.5, 5])]

every_first = pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)


def begun(first, n_calls=3, **params):
    """Return a stream that knows the first classes only."""
    model, known = small(MiniBatchClassifier, **params), np.isin(LABELS, first)
    for _ in range(n_calls):
        model.partial_fit(X[known], LABELS[known], first)
    return model


def grown(model):
    """Return the same stream, told of all classes, before it learns more."""
    model = pickle.loads(pickle.dumps(model))
    return model.partial_fit(X[:1], LABELS[:1], ALL, sample_weight=0)


# Predictions


@every_pair(
    pytest.mark.parametrize("average", [False, True]),
    pytest.mark.parametrize("loss", LOSSES_OF_CLASSES),
    every_depth,
    every_first,
    every_engine,
)
def test_nothing_changes_between_known_classes(first, hidden, loss, average):
    """Before the next step, the known classes do as before, and new ones score 0."""
    model = begun(first, loss=loss, hidden_layer_sizes=hidden, average=average)
    more, places = grown(model), np.searchsorted(ALL, first)
    assert more.classes_.tolist() == ALL.tolist()
    assert more.t_ == model.t_
    scores, before = more.decision_function(X), model.decision_function(X)
    assert not np.delete(scores, places, axis=1).any()
    if before.ndim == 1:
        before = np.column_stack([-before, before]) / (2 if loss == "log_loss" else 1)
    np.testing.assert_allclose(scores[:, places], before, rtol=1e-12, atol=1e-14)
    if loss in ("log_loss", "modified_huber"):
        p = more.predict_proba(X)[:, places]
        shares = p / p.sum(1, keepdims=True)
        np.testing.assert_allclose(shares, model.predict_proba(X), atol=1e-12)
    if len(first) == 2:
        assert np.array_equal(more.predict(X), model.predict(X))


@every_depth
def test_labels_that_are_added_leave_the_others(hidden):
    """Of several labels a row, each is as before, and a new one as likely as not.

    The labels of a linear model have no weight in common, and are learned as before.
    """
    several = (np.column_stack([Y, Y[:, 0] + 2]) > 3).astype(int)
    model = small(MiniBatchClassifier, hidden_layer_sizes=hidden)
    model.partial_fit(X, several[:, :2])
    more = pickle.loads(pickle.dumps(model))
    more.partial_fit(X, several, classes=range(3), sample_weight=0)
    p = more.predict_proba(X)
    np.testing.assert_allclose(p[:, :2], model.predict_proba(X), rtol=1e-12)
    assert (p[:, 2] == 0.5).all()
    more.partial_fit(X, several)
    if not hidden:
        model.partial_fit(X, several[:, :2])
        np.testing.assert_allclose(more.coef_[:2], model.coef_, rtol=1e-10)
        assert more.coef_[2].all()


# Steps, against torch

TORCH = {
    "sgd": partial(optim.SGD, lr=0.3),
    "momentum": partial(optim.SGD, lr=0.1, momentum=0.9),
    "nesterov": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": partial(optim.Adagrad, lr=2.0, eps=1e-8),
    "rmsprop": partial(optim.RMSprop, lr=0.05, alpha=0.999, eps=0.1),
    "adam": partial(optim.Adam, lr=0.05, eps=0.1),
    "adamw": partial(optim.AdamW, lr=0.05, eps=0.1, weight_decay=0),
}


def cross_entropy(z, numbers):
    """Return the mean cross entropy of logits (n, c)."""
    return F.cross_entropy(z, numbers)


def hinges(z, numbers):
    """Return the mean over rows of the sum of hinges, each class against the rest."""
    sign = 2 * F.one_hot(numbers, z.shape[1]) - 1
    return (1 - sign * z).clamp(min=0).sum(1).mean()


def zeros(*units):
    """Return the weights (o, i) and biases of layers of torch, one after the other."""
    return [
        torch.zeros(shape, dtype=torch.double, requires_grad=True)
        for i, o in pairwise(units)
        for shape in ((o, i), (o,))
    ]


def drawn(*units):
    """Return weights to start a network of ours with."""
    rng = np.random.default_rng(1)
    return {
        "coefs_init": [rng.normal(size=sizes) for sizes in pairwise(units)],
        "intercepts_init": [rng.normal(size=o) for o in units[1:]],
    }


def write_(parameters, coefs, biases, places, factors):
    """Write weights of ours on torch's, those of outputs by the rule."""
    ours = [array.T for pair in zip(coefs, biases, strict=True) for array in pair]
    ours[-2:] = [(array.T * factors).T for array in ours[-2:]]
    with torch.no_grad():
        for one, array in zip(parameters[:-2], ours[:-2], strict=True):
            one.copy_(torch.from_numpy(array))
        for one, array in zip(parameters[-2:], ours[-2:], strict=True):
            one[places] = torch.from_numpy(array)


def output(parameters, x):
    """Return the logits (n, c) of a network of tanh units, or a linear model."""
    for w, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = torch.tanh(F.linear(x, w, bias))
    return F.linear(x, *parameters[-2:])


STEPS = {
    "linear": ("log_loss", cross_entropy, ()),
    "network": ("log_loss", cross_entropy, (5,)),
    "against the rest": ("hinge", hinges, ()),
}


@every_pair(
    pytest.mark.parametrize(("loss", "value", "hidden"), STEPS.values(), ids=STEPS),
    pytest.mark.parametrize("optimizer", OPTIMIZERS),
    every_first,
    every_engine,
)
def test_steps_go_on_as_if_new_outputs_had_been_there(
    first, optimizer, loss, value, hidden
):
    """Torch takes them with all outputs from the start, new ones without gradients.

    Up to the growth its weights are ours, written by the rule: what its optimizer
    carries then comes from its own gradients, and by these it goes on alone.
    """
    model = small(MiniBatchClassifier, **OPTIMIZERS[optimizer], loss=loss, alpha=0)
    model.set_params(activation="tanh", hidden_layer_sizes=hidden, batch_size=None)
    model.set_params(max_iter=1, lr_schedule="constant")
    known, places = np.isin(LABELS, first), np.searchsorted(ALL, first)
    factors = np.ones(1)
    if len(first) == 2:
        factors = np.array([-1.0, 1.0]) / (2 if loss == "log_loss" else 1)
    parameters = zeros(N_FEATURES, *hidden, len(ALL))
    steps = TORCH[optimizer](parameters)

    def step(rows, columns):
        """Take a step of torch by the loss of some outputs."""
        steps.zero_grad()
        z = output(parameters, torch.from_numpy(X[rows]))[:, columns]
        numbers = np.searchsorted(ALL[columns], LABELS[rows])
        value(z, torch.from_numpy(numbers)).backward()
        steps.step()

    starts = {}
    if hidden:
        starts = drawn(N_FEATURES, *hidden, 1 if len(first) == 2 else len(first))
        write_(parameters, *starts.values(), places, factors)
    step(known, places)
    model.fit(X[known], LABELS[known], **starts)
    for _ in range(3):
        write_(parameters, *layers_of(model), places, factors)
        step(known, places)
        model.partial_fit(X[known], LABELS[known])
    write_(parameters, *layers_of(model), places, factors)
    for call in range(3):
        step(np.full(N_ROWS, True), np.arange(len(ALL)))
        model.partial_fit(X, LABELS, **({} if call else {"classes": ALL}))
    ours = [a.T for pair in zip(*layers_of(model), strict=True) for a in pair]
    for one, other in zip(ours, parameters, strict=True):
        np.testing.assert_allclose(one, other.detach(), rtol=1e-7, atol=1e-9)


# What goes with the steps

SETTINGS = {
    "plain": {},
    "a network": {"hidden_layer_sizes": (5,), "dropout": 0.3, "l1_ratio": 0.4},
    "averaging": {"average": True, "optimizer": "sgd", "momentum": 0.9},
    "without intercepts": {"fit_intercept": False, "lr_schedule": "invscaling"},
    "float32": {"dtype": "float32", "optimizer": "adagrad", "class_weight": "balanced"},
}


@pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS)
@every_first
def test_growth_is_the_same_whenever_it_is_told(first, params):
    """With the rows of a step, before them, and through a pickle: to the bit."""
    with_step = begun(first, **params)
    before = pickle.loads(pickle.dumps(with_step))
    with_step.partial_fit(X, LABELS, ALL)
    before = grown(before).partial_fit(X, LABELS)
    assert fitted_state(with_step) == fitted_state(before)
    assert with_step.decision_function(X).dtype == params.get("dtype", "float64")


@every_depth
@every_first
def test_a_mean_of_weights_begins_anew(first, hidden):
    """It is that of the weights since, of a stream that has no mean."""
    params = {"hidden_layer_sizes": hidden, "batch_size": None}
    mean, plain = begun(first, average=True, **params), begun(first, **params)
    path = []
    for _ in range(3):
        mean.partial_fit(X, LABELS, ALL)
        path.append(layers_of(plain.partial_fit(X, LABELS, ALL)))
    for found, several in zip(layers_of(mean), zip(*path, strict=True), strict=True):
        for one, values in zip(found, zip(*several, strict=True), strict=True):
            np.testing.assert_allclose(one, np.mean(values, 0), rtol=1e-10)


@every_optimizer
@every_first
def test_wide_rows_grow_as_dense_ones(first, optimizer, monkeypatch):
    """Where steps touch columns only, what is carried has another order."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 3)
    params, known = {**optimizer, "alpha": 0.01}, np.isin(LABELS, first)
    models = [small(MiniBatchClassifier, **params) for _ in range(2)]
    for model, rows in zip(models, (X, sparse.csr_array(X)), strict=True):
        model.partial_fit(rows[known], LABELS[known], first)
        model.partial_fit(rows, LABELS, ALL).partial_fit(rows, LABELS)
    assert_same_layers(*models, rtol=1e-9, atol=1e-12)


@every_first
def test_new_classes_are_balanced_too(first):
    """Rows seen before count for their classes among all."""
    model, known = begun(first, 1, class_weight="balanced"), np.isin(LABELS, first)
    plain = pickle.loads(pickle.dumps(model)).set_params(class_weight=None)
    of_class = compute_class_weight(
        "balanced", classes=ALL, y=np.r_[LABELS[known], LABELS]
    )
    of_rows = of_class[np.searchsorted(ALL, LABELS)]
    model.partial_fit(X, LABELS, ALL)
    plain.partial_fit(X, LABELS, ALL, of_rows)
    assert state_but_for_seen(model) == state_but_for_seen(plain)


def test_words_may_become_longer():
    """New labels of text are cut nowhere, and known ones are found again."""
    words = np.where(Y[:, 0] > 3, "yes", "no")
    model = small(MiniBatchClassifier).partial_fit(X, words, ["no", "yes"])
    some = np.where(Y[:, 1] > 0, "perhaps", words).astype(object)
    model.partial_fit(X, some, ["perhaps", "yes", "no"])
    assert model.classes_.tolist() == ["no", "perhaps", "yes"]
    assert set(model.predict(X)) <= set(model.classes_)


def test_paths_end_where_classes_become_more():
    """Each call has a trajectory of the weights of its own."""
    trajectory, words = WeightTrajectory(), np.where(LABELS > 2, "more", "less")
    model = small(MiniBatchClassifier).set_callbacks(trajectory)
    model.partial_fit(X, words, ["less", "more"])
    model.partial_fit(X, words, ["less", "more", "none"])
    sizes = [path.weights.shape[1] for path in trajectory.trajectories_]
    assert sizes == [4 + 1, 3 * (4 + 1)]
