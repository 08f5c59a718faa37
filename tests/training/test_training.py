"""Models trained together equal models trained apart, however they stop."""

from itertools import pairwise
from math import inf, isfinite

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED, frozen, real_devices
from covering import every_pair

import skgd._training.steps
from skgd._equations.activations import ACTIVATIONS
from skgd._equations.initialisers import initialise_
from skgd._equations.losses import LOSSES
from skgd._equations.network import arrays, new_like, new_network, raw_prediction
from skgd._equations.optimizers import OPTIMIZERS, variant
from skgd._equations.schedules import SCHEDULES
from skgd._estimators.checks import TARGETS
from skgd._machine.generators import rows_of_epoch
from skgd._training.batches import Data, batch_sizes
from skgd._training.loop import Validation, train
from skgd._training.models import Models
from skgd._training.stopping import FAR_ABOVE, History, Untrained, judge

PER_MODEL = {  # five models
    "lr": [0.05, 0.2, 0.01, 0.1, 0.003],
    "momentum": [0.0] * 5,
    "beta_1": [0.9, 0.8, 0.9, 0.5, 0.9],
    "beta_2": [0.999, 0.9, 0.99, 0.999, 0.999],
    "epsilon": [1e-8] * 5,
    "alpha": [0.0, 1e-2, 1e-3, 0.1, 1.0],
    "l1_ratio": [0.0, 0.5, 0.0, 1.0, 0.2],
}
SIZES = {"linear": (4, 3), "network": (4, 6, 5, 3)}
SETTINGS = {  # each a part of training that acts on the models of a stack one by one
    "clipping": {"max_grad_norm": 0.5},
    "averaging": {"average": 10},
    "dropout": {"dropout": 0.4},
    "a function of t": {"lr_schedule": lambda t: 1 / (1 + t % 3)},
    "warm-up": {"warmup_steps": 20},
    **{name: {"lr_schedule": name, "horizon": 12} for name in SCHEDULES},
    "adaptive": {"lr_schedule": "adaptive", "tol": 1e-2},
    "all at once": {
        "optimizer": "adam",
        "max_grad_norm": 0.5,
        "average": 10,
        "dropout": 0.4,
        "lr_schedule": "adaptive",
        "tol": 1e-2,
        "warmup_steps": 20,
    },
}


def per_model_of(models, **changes):
    values = {**PER_MODEL, **changes}
    return {key: np.array(value, float)[models] for key, value in values.items()}


def data_of(loss, n_outputs, weighted=False, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    if loss.endswith(("log_loss", "hinge", "modified_huber", "perceptron")):
        n_classes = max(2, n_outputs)
        y = torch.randint(n_classes, (1, 30), generator=generator).double()
    else:
        y = torch.randn(n_outputs, 30, generator=generator, dtype=torch.float64)
        y = y.exp() if loss in TARGETS else y
    weight = torch.rand(1, 30, generator=generator).double() if weighted else None
    return Data(
        x.to(device), y.to(device), weight if weight is None else weight.to(device)
    )


def new_models(data, sizes, shared, per_model, seeds):
    """Return the models before training; one seed serves all, or each has its own."""
    network = new_network(len(per_model["lr"]), sizes, True, data.x)
    generators = [np.random.default_rng(seed) for seed in seeds]
    initialise_(network, ACTIVATIONS[shared.activation](0.0), generators)
    entry = OPTIMIZERS[variant(shared.optimizer, shared.nesterov, per_model)]
    kept = {name: new_like(network) for name in entry.state_names}
    return Models(
        network,
        kept,
        generators,
        average=new_like(network) if shared.average else None,
        slowed=np.ones(len(per_model["lr"])) if shared.adaptive else None,
    )


def trained(data, sizes, shared, per_model, seeds, validation=None, watch=None):
    """Return the models after training, and their histories."""
    models = new_models(data, sizes, shared, per_model, seeds)
    return models, train(data, models, shared, per_model, validation, watch)


def assert_together_equals_apart(
    data,
    sizes,
    shared,
    own=False,
    order=(0, 1, 2, 3, 4),
    validation=None,
    **changes,
):
    """Train all models at once, then one by one, and compare all that comes out."""
    seeds = list(order) if own else [0]
    per_model = per_model_of(list(order), **changes)
    together, histories = trained(data, sizes, shared, per_model, seeds, validation)
    for place, model in enumerate(order):
        per_model, seed = per_model_of([model], **changes), [model if own else 0]
        alone, [history] = trained(data, sizes, shared, per_model, seed, validation)
        assert histories[place].converged == history.converged
        assert histories[place].diverged == history.diverged
        assert len(histories[place].objective) == len(history.objective)
        np.testing.assert_allclose(
            histories[place].objective, history.objective, rtol=1e-8
        )
        for name in ("validation_loss", "score"):
            curves = getattr(histories[place], name), getattr(history, name)
            np.testing.assert_allclose(*curves, rtol=1e-8, atol=1e-10)
        if shared.adaptive:
            assert together.slowed[place] == alone.slowed[0]
        np.testing.assert_allclose(
            np.concatenate(histories[place].batch_loss),
            np.concatenate(history.batch_loss),
            rtol=1e-8,
            atol=1e-300,
        )
        if not history.diverged:
            for name in ("parameters", "predicting"):
                both = getattr(together, name), getattr(alone, name)
                for ours, theirs in zip(*map(arrays, both), strict=True):
                    torch.testing.assert_close(
                        ours[place], theirs[0], rtol=1e-8, atol=1e-9
                    )
    return histories


@real_devices
@every_pair(
    pytest.mark.parametrize(
        "own", [False, True], ids=["same rows", "rows of their own"]
    ),
    pytest.mark.parametrize("kind", SIZES),
    pytest.mark.parametrize("optimizer", OPTIMIZERS),
)
def test_company_changes_nothing(optimizer, kind, own, device):
    """Five models with numbers of their own train together as they train apart."""
    heavy = optimizer in ("momentum", "nesterov")
    shared = SHARED._replace(
        optimizer="sgd" if heavy else optimizer, nesterov=optimizer == "nesterov"
    )
    data = data_of("squared_error", 3, device=device)
    changes = {"momentum": [0.0, 0.5, 0.9, 0.3, 0.0]} if heavy else {}
    if optimizer == "rmsprop":  # whose first steps are 1 / sqrt(1 - beta_2) times lr
        changes = {"beta_2": [0.9, 0.8, 0.5, 0.7, 0.9]}

    assert_together_equals_apart(data, SIZES[kind], shared, own, **changes)


@every_pair(
    pytest.mark.parametrize("weighted", [False, True]),
    pytest.mark.parametrize("batch_size", [None, 1, 8]),
    pytest.mark.parametrize("loss", LOSSES),
)
def test_company_changes_nothing_for_any_loss(loss, batch_size, weighted):
    """Likewise for every loss, size of batch, and with sample weights."""
    n_outputs = 1 if loss == "binary_log_loss" else 3
    shared = SHARED._replace(loss=loss, batch_size=batch_size, max_iter=4)
    data, changes = data_of(loss, n_outputs, weighted), {}
    if batch_size == 1:  # larger steps lead to losses of 1e5, where rounding grows
        changes = {"lr": [0.02, 0.05, 0.01, 0.03, 0.003]}

    assert_together_equals_apart(
        data, (4, 6, n_outputs), shared, own=batch_size == 8, **changes
    )


@pytest.mark.parametrize("last_batch", ["keep", "drop", "fill"])
@pytest.mark.parametrize("own", [False, True])
def test_company_changes_nothing_for_any_last_batch(last_batch, own):
    """Likewise for what becomes of the rows that remain."""
    shared = SHARED._replace(last_batch=last_batch)

    assert_together_equals_apart(data_of("squared_error", 3), (4, 3), shared, own)


def test_the_order_of_the_models_changes_nothing():
    """Models at other places of the stack are the same models."""
    order = (3, 0, 4, 2, 1)

    assert_together_equals_apart(
        data_of("squared_error", 3), SIZES["network"], SHARED, order=order
    )


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_model_that_stops_leaves_the_others_to_go_on(optimizer, own):
    """Each model stops at its own epoch and keeps the weights it had then."""
    shared = SHARED._replace(optimizer=optimizer, max_iter=60, tol=1e-2)
    histories = assert_together_equals_apart(
        data_of("squared_error", 3), SIZES["linear"], shared, own
    )

    assert len({len(history.objective) for history in histories}) >= 3
    assert any(history.converged for history in histories)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", SIZES)
def test_a_model_that_diverges_disturbs_no_other(kind, own):
    """The others equal themselves alone, also in the epoch in which it blows up."""
    lr = [0.05, 1e6, 0.01, 30.0, 0.003]
    shared = SHARED._replace(activation="relu", max_iter=30)
    histories = assert_together_equals_apart(
        data_of("squared_error", 3), SIZES[kind], shared, own, lr=lr
    )

    diverged = [history.diverged for history in histories]
    assert diverged == [False, True, False, True, False]


@every_pair(
    pytest.mark.parametrize(
        "own", [False, True], ids=["same rows", "rows of their own"]
    ),
    pytest.mark.parametrize("kind", SIZES),
    pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS),
)
def test_company_changes_nothing_for_any_setting(changes, kind, own):
    """Likewise where gradients are cut, weights averaged, units dropped, rates fall."""
    shared = SHARED._replace(**changes)
    data = data_of("squared_error", 3, weighted=True)
    alpha = [0.01, 0.02, 0.1, 0.1, 1.0]  # "optimal" has no rate without it

    assert_together_equals_apart(data, SIZES[kind], shared, own, alpha=alpha)


# Folds: models that see the same rows in the same order


FOLDS = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [9, 4, 11, 12, 13, 14, 15, 16, 17]]


@every_pair(
    pytest.mark.parametrize("kind", SIZES),
    pytest.mark.parametrize("loss", ["squared_error", "multinomial_log_loss"]),
    pytest.mark.parametrize("weights", [None, "of rows", "of folds"]),
    pytest.mark.parametrize(
        ("batch_size", "last_batch"),
        [(4, "keep"), (4, "drop"), (4, "fill"), (1, "keep"), (None, "fill")],
    ),
)
def test_folds_change_nothing(batch_size, last_batch, weights, loss, kind):
    """Models of a fold are trained on its rows, whatever the others are trained on."""
    shared = SHARED._replace(batch_size=batch_size, last_batch=last_batch, loss=loss)
    folds = [fold[:9] for fold in FOLDS] if batch_size == 1 else FOLDS

    assert_folds_equal_apart(shared, folds, kind, weights)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_folds_change_nothing_for_any_setting(changes):
    """Likewise where gradients are cut, weights averaged, units dropped, rates fall."""
    shared = SHARED._replace(**{"batch_size": 4, **changes})

    alpha = [0.01, 0.02, 0.1, 0.1, 1.0]  # "optimal" has no rate without it

    assert_folds_equal_apart(shared, FOLDS, "network", "of folds", alpha=alpha)


@pytest.mark.parametrize("changes", [{}, SETTINGS["all at once"]], ids=["plain", "all"])
@pytest.mark.parametrize("stops", [False, True], ids=["objective", "held out"])
def test_folds_change_nothing_for_stopping(stops, changes):
    """Models stop one by one, by the objective or the held-out rows of their fold."""
    stopping = {"tol": 1e-2, "max_iter": 30, "n_iter_no_change": 2, "batch_size": 4}
    shared = SHARED._replace(**{**stopping, **changes})
    lengths = assert_folds_equal_apart(shared, FOLDS, "network", "of folds", stops)
    assert len(set(lengths)) > 2


def assert_folds_equal_apart(shared, folds, kind, weights=None, stops=False, **changes):
    """Train two folds of three models at once, then all models one by one."""
    data = data_of(shared.loss, 3, weighted=weights is not None)
    if weights == "of folds":
        data = data._replace(weight=torch.cat([data.weight, data.weight.flip(1)]))
    n_rows = max(map(len, folds))
    padded = np.array([fold + fold[:1] * (n_rows - len(fold)) for fold in folds])
    counts = [len(fold) for fold in folds]
    apart = np.array([0, 1, 2, 1, 3, 4])
    held_out = Validation(data._replace(rows=padded + 12, counts=counts), None, True)
    together, histories = trained(
        data._replace(rows=padded, counts=counts),
        SIZES[kind],
        shared,
        per_model_of(apart, **changes),
        [5, 6],
        held_out if stops else None,
    )
    for place, model in enumerate(apart):
        fold = place // 3
        of_fold = data._replace(rows=np.array(folds[fold]))
        if weights == "of folds":
            of_fold = of_fold._replace(weight=data.weight[[fold]])
        held_out = Validation(of_fold._replace(rows=of_fold.rows + 12), None, True)
        alone, [history] = trained(
            of_fold,
            SIZES[kind],
            shared,
            per_model_of([model], **changes),
            [5 + fold],
            held_out if stops else None,
        )
        ours = histories[place]
        assert ours.diverged == history.diverged
        assert ours.converged == history.converged
        for name in ("objective", "validation_loss", "untrained", "end"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(history, name), rtol=1e-8, atol=1e-300
            )
        for ours, theirs in zip(
            arrays(together.predicting), arrays(alone.predicting), strict=True
        ):
            torch.testing.assert_close(ours[place], theirs[0], rtol=1e-8, atol=1e-10)
    return [len(history.objective) for history in histories]


# Held-out rows


def held_out(data, stops=True, score=None):
    """Return the first 20 rows to train on, out of order, and the others to judge."""
    rows = np.random.default_rng(0).permutation(20)
    validation = data._replace(rows=np.arange(20, 30))
    return data._replace(rows=rows), Validation(validation, score, stops)


def size_of_intercepts(network, places, models):
    """Return scores that have nothing to do with the loss."""
    return network.layers[-1].bias[places].abs().sum(1).tolist()


@pytest.mark.parametrize("score", [None, size_of_intercepts], ids=["loss", "score"])
@pytest.mark.parametrize("own", [False, True], ids=["same rows", "rows of their own"])
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("changes", [{}, SETTINGS["all at once"]], ids=["plain", "all"])
def test_company_changes_nothing_for_early_stopping(changes, kind, own, score):
    """Each model stops by the held-out rows, and returns to its own best weights."""
    shared = SHARED._replace(
        **{"tol": 0.0, "max_iter": 30, "n_iter_no_change": 4, **changes}
    )
    data, validation = held_out(data_of("squared_error", 3, weighted=True), True, score)
    histories = assert_together_equals_apart(
        data, SIZES[kind], shared, own, validation=validation
    )

    assert changes or len({len(history.objective) for history in histories}) > 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("at_once", [4096, 4])
@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        ("squared_error", lambda z, y: F.mse_loss(z, y.T, reduction="none").sum(1) / 2),
        (
            "multinomial_log_loss",
            lambda z, y: F.cross_entropy(z, y[0].long(), reduction="none"),
        ),
    ],
)
def test_the_validation_loss_is_that_of_torch(
    loss, oracle, at_once, weighted, monkeypatch
):
    """It is the weighted mean of torch's loss on held-out rows, for each model."""
    monkeypatch.setattr("skgd._training.objective._HELD_OUT_AT_ONCE", at_once)
    monkeypatch.setattr("skgd._training.objective._AT_THE_LEAST", 1)
    data, validation = held_out(data_of(loss, 3, weighted), stops=False)
    models, histories = trained(
        data,
        SIZES["network"],
        SHARED._replace(loss=loss),
        per_model_of([0, 1, 2, 3, 4]),
        [0],
        validation,
    )
    activation = ACTIVATIONS["tanh"](0.0)
    z = raw_prediction(models.parameters.layers, data.x[20:], activation)
    for history, scores in zip(histories, z, strict=True):
        losses = oracle(scores.T, data.y[:, 20:])
        weight = data.weight[0, 20:].numpy() if weighted else None
        expected = np.average(losses.numpy(), weights=weight)

        assert len(history.validation_loss) == len(history.objective) == 12
        assert history.validation_loss[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("average", [0, 1])
def test_every_model_returns_to_its_best_weights(average, own):
    """What is left has the lowest validation loss of its path, not the last one."""
    shared = SHARED._replace(tol=0.0, n_iter_no_change=4, max_iter=40, average=average)
    data, validation = held_out(data_of("squared_error", 3))
    per_model = per_model_of([0, 1, 2, 3], alpha=[0.0] * 5)
    seeds = [0, 1, 2, 3] if own else [0]
    models, histories = trained(
        data, SIZES["linear"], shared, per_model, seeds, validation
    )
    z = raw_prediction(
        models.predicting.layers, data.x[20:], ACTIVATIONS["identity"](0.0)
    )
    for history, scores in zip(histories, z, strict=True):
        restored = F.mse_loss(scores, data.y[:, 20:], reduction="sum").item() / 2 / 10

        # a start may be the best of all, and is then what is left
        lowest = min(*history.validation_loss, history.best)
        assert restored == pytest.approx(lowest, rel=1e-12)
        assert restored == pytest.approx(history.best, rel=1e-12)
        if history.converged:
            before = history.best < min(history.validation_loss)
            best = -1 if before else int(np.argmin(history.validation_loss))
            assert len(history.validation_loss) == best + 1 + 4
    assert sum(history.converged for history in histories) >= 2


def test_held_out_rows_that_only_watch_change_nothing():
    """Without early stopping the path is the same bits as without held-out rows."""
    shared = SHARED._replace(tol=1e-3, dropout=0.3)
    data, validation = held_out(data_of("squared_error", 3), stops=False)
    per_model = per_model_of([0, 1, 2, 3, 4])
    plain, _ = trained(data, SIZES["network"], shared, per_model, [0])
    watched, _ = trained(data, SIZES["network"], shared, per_model, [0], validation)

    assert torch.equal(watched.parameters.flat, plain.parameters.flat)


@every_pair(
    pytest.mark.parametrize("weighted", [False, True]),
    pytest.mark.parametrize(
        "own", [False, True], ids=["same rows", "rows of their own"]
    ),
    pytest.mark.parametrize(
        ("batch_size", "last_batch"),
        [(20, "keep"), (20, "fill"), (7, "keep"), (7, "fill"), (1, "keep")]
        + [(None, "keep")],
    ),
)
def test_training_on_some_rows_is_training_on_a_copy_of_them(
    last_batch, batch_size, own, weighted
):
    """Rows that share arrays with others give the bits of the rows by themselves."""
    data, _ = held_out(data_of("squared_error", 3, weighted))
    rows = torch.from_numpy(data.rows)
    weight = data.weight[:, rows] if weighted else None
    copy = Data(data.x[rows], data.y[:, rows], weight)
    shared = SHARED._replace(batch_size=batch_size, last_batch=last_batch, max_iter=3)
    per_model, seeds = per_model_of([0, 1, 2]), [0, 1, 2] if own else [0]
    some, histories = trained(data, SIZES["network"], shared, per_model, seeds)
    copied, expected = trained(copy, SIZES["network"], shared, per_model, seeds)

    assert torch.equal(some.parameters.flat, copied.parameters.flat)
    for history, other in zip(histories, expected, strict=True):
        assert history.objective == other.objective


@every_pair(
    pytest.mark.parametrize(
        "own", [False, True], ids=["same rows", "rows of their own"]
    ),
    pytest.mark.parametrize("kind", SIZES),
    pytest.mark.parametrize(
        "changes", [{}, *SETTINGS.values()], ids=["plain", *SETTINGS]
    ),
)
def test_one_that_diverges_changes_no_bit_of_the_others(changes, kind, own):
    """In the epoch in which one becomes infinite, the others have the bits of before.

    Its neighbour in the other stack is a tame one, so that the shapes are the same.
    """
    shared = SHARED._replace(activation="relu", batch_size=3, **changes)
    shared = shared._replace(max_iter=1)
    if shared.lr_schedule == "optimal":  # whose rate is of alpha alone
        number, wild, tame = "alpha", 1e-300, 0.1
    else:
        number, wild, tame = "lr", 1e200, 0.1
    numbers = {"alpha": [0.01, 0.01, 1e-3, 0.1, 1.0], "lr": PER_MODEL["lr"]}
    data, validation = held_out(data_of("squared_error", 3, weighted=True))
    results = []
    for value in (wild, tame):
        per_model = per_model_of([0, 1, 2, 3, 4], **numbers)
        per_model[number][1] = value
        seeds = [0, 1, 2, 3, 4] if own else [0]
        results.append(trained(data, SIZES[kind], shared, per_model, seeds, validation))
    (with_wild, wild), (with_tame, tame) = results

    assert wild[1].diverged
    assert not tame[1].diverged
    for place in (0, 2, 3, 4):
        for ours, theirs in zip(
            arrays(with_wild.predicting), arrays(with_tame.predicting), strict=True
        ):
            assert torch.equal(ours[place], theirs[place])
        assert wild[place].objective == tame[place].objective
        assert wild[place].validation_loss == tame[place].validation_loss


# Clipping, averaging, dropout: what torch makes of them


class Recorder:
    """Keeps the weights after every step, and ends the training where it is told to."""

    wants_steps = wants_epochs = True

    def __init__(self, ends_after=None):
        self.weights, self.ends_after = [], ends_after

    def before_epoch(self):
        pass

    def before_step(self):
        pass

    def after_step(self, models, loss):
        self.weights.append(models.parameters.flat.clone())
        return "enough" if models.t == self.ends_after else ""

    def after_epoch(self, models, histories):
        return ""


def torch_network(network, place):
    """Return one model of a stack as linear layers of torch."""
    layers = []
    for w, bias in network.layers:
        layer = torch.nn.Linear(w.shape[2], w.shape[1], dtype=torch.float64)
        layer.weight.data, layer.bias.data = w[place].clone(), bias[place].clone()
        layers.append(layer)
    return torch.nn.ModuleList(layers)


def torch_loss(layers, x, y, between=torch.tanh):
    """Return the loss of a batch, (b, i) and (o, b); ``between`` is of sums (o, b)."""
    h = x
    for n, layer in enumerate(layers):
        z = layer(h).T
        h = between(z).T if n < len(layers) - 1 else z.T
    return F.mse_loss(h, y.T, reduction="sum") / 2 / len(x)


@pytest.mark.parametrize(
    ("optimizer", "peer"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)]
)
def test_clipping_is_that_of_torch(optimizer, peer):
    """clip_grad_norm_ and torch's optimizer take the same steps, model by model."""
    shared = SHARED._replace(
        optimizer=optimizer, max_grad_norm=1.5, shuffle=False, max_iter=3
    )
    data = data_of("squared_error", 3)
    per_model = per_model_of([0, 1, 2], alpha=[0.0] * 5)
    start = new_models(data, SIZES["network"], shared, per_model, [0])
    models, _ = trained(data, SIZES["network"], shared, per_model, [0])
    norms = []
    for place in range(3):
        layers = torch_network(start.parameters, place)
        numbers = {name: per_model[name][place] for name in ("lr", "epsilon")}
        options = {"lr": numbers["lr"]}
        if optimizer == "adam":
            betas = per_model["beta_1"][place], per_model["beta_2"][place]
            options.update(betas=betas, eps=numbers["epsilon"])
        descent = peer(layers.parameters(), **options)
        for _ in range(3):
            for x, y in zip(data.x.split(7), data.y.split(7, dim=1), strict=True):
                descent.zero_grad()
                torch_loss(layers, x, y).backward()
                norms.append(torch.nn.utils.clip_grad_norm_(layers.parameters(), 1.5))
                descent.step()
        ends = torch_network(models.parameters, place)
        for ours, theirs in zip(ends.parameters(), layers.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)

    assert min(norms) < 1.5 < max(norms)


@pytest.mark.parametrize("average", [1, 2, 13, 60, 61])
def test_the_average_is_the_mean_of_the_weights(average):
    """Of the weights after each step from the given one on; before it, the last."""
    shared = SHARED._replace(average=average)
    recorder = Recorder()
    models, _ = trained(
        data_of("squared_error", 3),
        SIZES["network"],
        shared,
        per_model_of([0, 1, 2]),
        [0],
        watch=recorder,
    )
    weights = torch.stack(recorder.weights)

    assert len(weights) == models.t == 60
    expected = weights[average - 1 :].mean(0) if average <= 60 else weights[-1]
    torch.testing.assert_close(models.average.flat, expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(models.parameters.flat, weights[-1])


def test_averaging_leaves_the_path_alone():
    """The weights that descend are the same bits with an average and without."""
    args = data_of("squared_error", 3), SIZES["network"]
    per_model = per_model_of([0, 1, 2])
    plain, _ = trained(*args, SHARED, per_model, [0])
    averaged, _ = trained(*args, SHARED._replace(average=5), per_model, [0])

    assert torch.equal(averaged.parameters.flat, plain.parameters.flat)
    assert not torch.equal(averaged.average.flat, plain.parameters.flat)


def test_dropout_is_that_of_torch(monkeypatch):
    """With the masks that torch.nn.functional.dropout draws, the steps are torch's."""

    def draw(generator, dropout, mask):
        ones = torch.ones_like(mask).requires_grad_()  # else torch draws otherwise
        mask.copy_(F.dropout(ones, dropout).detach())

    monkeypatch.setattr("skgd._training.steps._draw", draw)
    shared = SHARED._replace(dropout=0.4, shuffle=False, max_iter=3)
    data = data_of("squared_error", 3)
    per_model = per_model_of([0, 1], alpha=[0.0] * 5)
    start = new_models(data, SIZES["network"], shared, per_model, [0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models, _ = trained(data, SIZES["network"], shared, per_model, [0])
        for place in range(2):
            layers = torch_network(start.parameters, place)
            torch.manual_seed(0)
            descent = torch.optim.SGD(layers.parameters(), lr=per_model["lr"][place])
            for _ in range(3):
                for x, y in zip(data.x.split(7), data.y.split(7, dim=1), strict=True):
                    descent.zero_grad()
                    torch_loss(
                        layers,
                        x,
                        y,
                        lambda z: F.dropout(torch.tanh(z.contiguous()), 0.4),
                    ).backward()
                    descent.step()
            ends = torch_network(models.parameters, place)
            pairs = zip(ends.parameters(), layers.parameters(), strict=True)
            for ours, theirs in pairs:
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("own", [False, True], ids=["same masks", "masks of their own"])
def test_dropout_drops_its_share_of_the_units(own, monkeypatch):
    """A mask is 0 as often as dropout says, anew at each step, and 1 in the mean."""
    drawn, draw = [], skgd._training.steps._draw

    def drawing(generator, dropout, mask):
        draw(generator, dropout, mask)
        drawn.append(mask.clone())

    monkeypatch.setattr("skgd._training.steps._draw", drawing)
    shared = SHARED._replace(dropout=0.3, batch_size=30)
    seeds = [0, 1, 2] if own else [0]
    trained(
        data_of("squared_error", 3),
        (4, 40, 20, 3),
        shared,
        per_model_of([0, 1, 2]),
        seeds,
    )
    masks = torch.cat([mask.flatten() for mask in drawn])
    n = len(masks)

    assert n == 12 * (3 if own else 1) * 60 * 30
    assert set(masks.tolist()) == {0.0, 1 / 0.7}
    spread = 5 * (0.3 * 0.7 / n) ** 0.5  # 5 standard deviations
    assert abs((masks == 0).double().mean().item() - 0.3) < spread
    assert abs(masks.mean().item() - 1) < spread / 0.7
    assert all(not torch.equal(a, b) for a, b in pairwise(drawn[::2]))


def test_the_stream_without_dropout_is_that_of_the_rows():
    """dropout=0 draws nothing beside the weights and the order of the rows."""
    data = data_of("squared_error", 3)
    models, _ = trained(data, SIZES["network"], SHARED, per_model_of([0]), [0])
    generator = np.random.default_rng(0)
    network = new_network(1, SIZES["network"], True, data.x)
    initialise_(network, ACTIVATIONS["tanh"](0.0), [generator])
    for _ in range(SHARED.max_iter):
        rows_of_epoch(generator, 30, sum(batch_sizes(30, 7, "keep")), shuffle=True)

    assert frozen(models.generators[0]) == frozen(generator)


def test_an_adaptive_rate_is_each_models_own():
    """A model that settles early slows down, and the others do not with it."""
    shared = SHARED._replace(lr_schedule="adaptive", tol=1e-2, max_iter=40)
    models, histories = trained(
        data_of("squared_error", 3), SIZES["linear"], shared, per_model_of([0, 1]), [0]
    )
    falls = np.log(models.slowed) / np.log(1 / 5)

    np.testing.assert_allclose(falls, falls.round(), atol=1e-9)
    assert falls[0] != falls[1]
    assert max(falls) > 1
    for history, slowed, lr in zip(histories, models.slowed, [0.05, 0.2], strict=True):
        ends = lr * slowed <= 1e-6 or not history.memory.gained
        assert history.converged is bool(ends)


# Training that is ended from outside


@pytest.mark.parametrize("ends_after", [1, 7, 10, 11])
def test_an_ended_training_stops_at_that_step(ends_after):
    """All models stop there, and the curve has the mean of the batches they had."""
    shared = SHARED._replace(tol=1e-9)
    recorder = Recorder(ends_after)
    models, histories = trained(
        data_of("squared_error", 3),
        SIZES["linear"],
        shared,
        per_model_of([0, 1], alpha=[0.0] * 5),
        [0],
        watch=recorder,
    )

    assert models.t == ends_after
    assert torch.equal(models.parameters.flat, recorder.weights[-1])
    for history in histories:
        assert history.t[-1] == ends_after
        assert (history.ended, history.converged) == ("enough", False)
        in_the_last = history.batch_loss[-1]
        sizes = [7, 7, 7, 7, 2][: len(in_the_last)]
        assert len(in_the_last) == ends_after - 5 * ((ends_after - 1) // 5)
        expected = np.average(in_the_last, weights=sizes)
        assert history.objective[-1] == pytest.approx(expected, rel=1e-12)


def test_the_batches_of_an_epoch_cut_short_are_no_divergence():
    """A single row far from the others, after which training ends, is not judged."""
    data = data_of("squared_error", 3)
    data.y[:, 0] = 300
    shared = SHARED._replace(batch_size=1, shuffle=False, max_iter=3)
    per_model = per_model_of([0], lr=[1e-9] * 5)
    models = new_models(data, (4, 3), shared, per_model, [0])
    watch = Recorder(ends_after=31)
    [history] = train(data, models, shared, per_model, watch=watch)

    assert len(history.objective) == 2
    assert history.objective[-1] > 10 * history.untrained.constant
    assert not history.diverged


def test_the_objective_counts_the_penalty_of_each_model():
    """It is the loss plus the elastic net of the weights, without the intercepts."""
    shared = SHARED._replace(max_iter=1, batch_size=None)
    per_model = per_model_of([0, 1, 2, 3, 4])
    data, sizes = data_of("squared_error", 3), SIZES["network"]
    network = new_network(5, sizes, True, data.x)
    generator = torch.Generator().manual_seed(0)
    for array in arrays(network):
        drawn = torch.randn(array.shape, generator=generator, dtype=torch.float64)
        array.copy_(drawn)
    weights = [layer.w.clone() for layer in network.layers]
    models = Models(network, {}, [np.random.default_rng(0)])
    histories = train(data, models, shared, per_model)

    for m, history in enumerate(histories):
        flat = torch.cat([w[m].flatten() for w in weights])
        l1, l2 = torch.linalg.norm(flat, 1).item(), torch.linalg.norm(flat, 2).item()
        share = per_model["l1_ratio"][m]
        penalty = per_model["alpha"][m] * ((1 - share) * l2**2 / 2 + share * l1)
        expected = history.batch_loss[0].item() + penalty

        assert history.objective[0] == pytest.approx(expected, rel=1e-12)


def test_weights_that_overflow_in_the_last_step_are_told():
    """The objective is taken before a step, so the weights are looked at as well."""
    shared = SHARED._replace(max_iter=1, batch_size=None)
    per_model = per_model_of([0], lr=[1e308] * 5)
    data = data_of("squared_error", 3)
    data = data._replace(x=100 * data.x, y=100 * data.y)
    _, [history] = trained(data, (4, 3), shared, per_model, [0])

    assert isfinite(history.objective[0])
    assert history.diverged


def curve_until_it_stops(objectives, **changes):
    """Return a history judged by the objectives until it goes on no more."""
    least = min(objectives[0], 10.0)
    history = History(untrained=Untrained(least, least))
    shared = SHARED._replace(**changes)
    for objective in objectives:
        history.objective.append(objective)
        history.loss.append(objective)
        judge(history, False, shared.tol, shared.n_iter_no_change)
        if not history.goes_on:
            break
    return history


def test_it_stops_when_the_objective_no_longer_falls_by_tol():
    """n_iter_no_change epochs in a row without a fall of more than tol end it."""
    falling = [1.0, 0.5, 0.45, 0.3, 0.29, 0.28, 0.27, 0.26]
    history = curve_until_it_stops(falling, tol=0.1, n_iter_no_change=3)

    assert history.objective == falling[:7]
    assert history.converged
    assert not history.diverged


def test_an_objective_that_stays_the_same_has_not_fallen():
    """With tol=0, a flat curve ends it: the loss of a perfect fit stays at zero."""
    history = curve_until_it_stops([0.0] * 50, tol=0.0, n_iter_no_change=3)

    assert len(history.objective) == 4
    assert history.converged


def test_without_tol_it_does_not_stop():
    """tol=None goes on however flat the curve is."""
    history = curve_until_it_stops([1.0] * 50, tol=None)

    assert len(history.objective) == 50


@pytest.mark.parametrize("bad", [inf, np.nan])
def test_a_number_that_is_none_has_diverged(bad):
    """An objective that is not finite ends it at once."""
    history = curve_until_it_stops([1.0, bad, 0.5])

    assert history.diverged
    assert len(history.objective) == 2


def test_growth_far_above_the_start_has_diverged():
    """Far above its start, an objective may rise twice in a row, not three times."""
    high = FAR_ABOVE * 10
    grows = curve_until_it_stops([1.0, high, high + 1, high + 2, high + 3])
    wavers = curve_until_it_stops([1.0, high, high - 1, high, high - 1, high])

    assert grows.diverged
    assert len(grows.objective) == 4
    assert not wavers.diverged


def test_a_wait_in_which_it_only_grew_is_no_convergence():
    """An objective that loses what it had gained, epoch by epoch, has not settled."""
    stop = {"tol": 0.0, "n_iter_no_change": 3}
    grows = curve_until_it_stops([9.0, 4.0, 4.1, 4.3, 4.6, 5.0], **stop)
    wavers = curve_until_it_stops([9.0, 4.0, 4.1, 4.0, 4.6, 5.0], **stop)
    returns = curve_until_it_stops([9.0, 4.0, 4.1, 4.3, 4.6, 4.5, 4.4], **stop)

    assert (grows.converged, grows.diverged) == (False, False)
    assert (wavers.converged, len(wavers.objective)) == (True, 5)
    assert (returns.converged, len(returns.objective)) == (True, 6)


def test_rounding_that_grows_is_no_divergence():
    """At the minimum an objective may rise by what is nothing to what it has gained."""
    history = curve_until_it_stops(
        [9.0, 1.0, 1.0001, 1.0002, 1.0003], tol=0.0, n_iter_no_change=3
    )

    assert history.converged


def test_far_above_the_start_it_may_settle():
    """What does not grow is no divergence: the end tells that it is well above."""
    high = FAR_ABOVE * 10
    history = curve_until_it_stops([high, high / 2, high, high / 2] * 9, tol=0.0)

    assert (history.converged, history.diverged) == (True, False)


def test_growth_near_the_start_has_not_diverged():
    """A rise that stays within reach of the start is no divergence."""
    history = curve_until_it_stops(np.linspace(1, FAR_ABOVE, 100).tolist())

    assert not history.diverged
