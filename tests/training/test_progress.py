"""Training goes on from any whole step, by the steps that it would have taken."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import SHARED, frozen
from scipy import sparse

import skgd._training.csr
from skgd._equations.network import new_like, new_network
from skgd._equations.optimizers import OPTIMIZERS, variant
from skgd._training import compiled, stepwise
from skgd._training.batches import Data
from skgd._training.csr import csr
from skgd._training.engines import why_no_numba
from skgd._training.loop import train
from skgd._training.models import Models
from skgd._training.progress import check_in_epoch, go_on_, vectors_of, write_vectors_

needs_numba = pytest.mark.skipif(bool(why_no_numba()), reason="no numba here")

STEPS = 5  # of an epoch
PER_MODEL = {
    "lr": 0.05,
    "momentum": 0.0,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-8,
    "alpha": 0.1,
    "l1_ratio": 0.4,
}
ALL_AT_ONCE = {
    "optimizer": "adam",
    "max_grad_norm": 0.5,
    "average": 4,
    "dropout": 0.4,
    "lr_schedule": "adaptive",
    "tol": 0.5,
    "warmup_steps": 6,
}
CASES = {
    "a network": ((9, 4, 1), {**ALL_AT_ONCE}),
    "one unit that owes a scale": ((9, 1), {"alpha": 0.5, "l1_ratio": 0.0}),
    "units that owe thresholds": ((9, 2), {}),
    "by loops, a scale": ((9, 1), {"engine": "numba", "l1_ratio": 0.0}),
    "by loops, thresholds": ((9, 2), {"engine": "numba"}),
}


def begun(name):
    """Return data, models and hyperparameters; anew, and always the same."""
    sizes, changes = CASES[name]
    rng = np.random.default_rng(0)
    rows = sparse.random(33, 9, density=0.3, format="csr", rng=rng)
    wide = "network" not in name
    x = csr(rows, torch.device("cpu")) if wide else torch.from_numpy(rows.toarray())
    y = torch.from_numpy(rng.normal(size=(sizes[-1], 33)))
    network = new_network(1, sizes, True, y, columns_first=wide)
    weights = network.flat
    weights.copy_(torch.from_numpy(rng.normal(size=len(weights))))
    numbers = {n: np.array([changes.get(n, one)]) for n, one in PER_MODEL.items()}
    of_shared = {n: one for n, one in changes.items() if n not in PER_MODEL}
    shared = SHARED._replace(max_iter=4, **of_shared)
    state = OPTIMIZERS[variant(shared.optimizer, False, numbers)].state_names
    models = Models(
        network,
        {one: new_like(network) for one in state},
        [np.random.default_rng(1)],
        average=new_like(network) if shared.average else None,
        slowed=np.ones(1) if shared.adaptive else None,
    )
    return Data(x, y, None), models, shared, numbers


class Keeper:
    """Keeps how far training is at every step."""

    def __init__(self):
        self.kept = []

    def is_due(self, ended):
        return True

    def keep(self, progress):
        self.kept.append(deepcopy(progress))


def of(models, histories):
    """Return what is left of training, but for the time."""
    [history] = histories
    return frozen([vectors_of(models), models.t, vars(history) | {"seconds": None}])


@pytest.fixture(autouse=True)
def each_step(monkeypatch):
    """Let loops be asked after each step, and torch lay out a few; wide rows be so."""
    monkeypatch.setattr(compiled, "_AT_ONCE_S", 1e-9)
    monkeypatch.setattr(stepwise, "_STEPS_AT_ONCE", 2)
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[needs_numba] if "loops" in n else []) for n in CASES],
)
def test_any_step_is_gone_on_from(name):
    """The end is the same to the bit, from whichever step; to keep changes nothing."""
    data, models, *numbers = begun(name)
    expected = of(models, train(data, models, *numbers))
    data, models, *numbers = begun(name)
    keeper = Keeper()
    histories = train(data, models, *numbers, keeper=keeper)
    assert of(models, histories) == expected
    n_epochs = len(histories[0].objective)
    assert len(keeper.kept) == 1 + n_epochs * STEPS
    for kept in keeper.kept:
        data, models, *numbers = begun(name)
        assert of(models, train(data, models, *numbers, kept=kept)) == expected


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[needs_numba] if "loops" in n else []) for n in CASES],
)
def test_debts_that_no_weights_can_owe_are_refused(name):
    """Loops believe what they are told, so it is looked at before."""
    data, models, *numbers = begun(name)
    keeper = Keeper()
    train(data, models, *numbers, keeper=keeper)
    kept = keeper.kept[1]
    for debt, array in kept.point.debts.items():
        others = [array.astype(np.float32), np.zeros((*array.shape, 1)), None]
        if array.size and debt not in ("log", "reach"):  # of these any numbers will do
            others += [array + 10**6, -1 - array]
        for other in others:
            debts = {**kept.point.debts, debt: other}
            if other is None:
                del debts[debt]
            forged = deepcopy(kept)._replace(point=kept.point._replace(debts=debts))
            data, models, *numbers = begun(name)
            with pytest.raises(ValueError, match="owe"):
                train(data, models, *numbers, kept=forged)


def test_vectors_of_another_model_are_refused():
    """By their names, lengths and precision; nothing is written then."""
    _, models, shared, _ = begun("a network")
    keeper = Keeper()
    train(*begun("a network"), keeper=keeper)
    kept, before = keeper.kept[-1], of(models, [keeper.kept[0].history])
    vectors = kept.vectors
    for others in (
        {**vectors, "more": np.zeros(3)},
        {name: one for name, one in vectors.items() if name != "slowed"},
        {**vectors, "parameters": vectors["parameters"][1:]},
        {**vectors, "parameters": vectors["parameters"].astype(np.float32)},
    ):
        with pytest.raises(ValueError, match="those of the model"):
            write_vectors_(models, others)
        with pytest.raises(ValueError, match="those of the model"):
            go_on_(models, shared.engine, kept._replace(vectors=others))
    with pytest.raises(ValueError, match="engine must be 'torch'"):
        go_on_(models, "numba", kept)
    stream = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(ValueError, match="drawn"):
        go_on_(models, shared.engine, kept._replace(stream=stream))
    assert of(models, [keeper.kept[0].history]) == before


def test_a_point_is_in_an_epoch_of_these_steps():
    """After one of them at the least, and before the last."""
    keeper = Keeper()
    train(*begun("a network"), keeper=keeper)
    point = keeper.kept[1].point
    check_in_epoch(point, STEPS, (1, 1), False)
    for n_steps, shape, in_window in (
        *((1, (1, 1), False), (STEPS, (1, 2), False), (STEPS, (1, 1), True)),
    ):
        with pytest.raises(ValueError, match="in an epoch"):
            check_in_epoch(point, n_steps, shape, in_window)
    for other in (
        point._replace(losses=point.losses[:0]),
        point._replace(penalties=point.penalties[0]),
        point._replace(streams=()),
    ):
        with pytest.raises(ValueError, match="in an epoch"):
            check_in_epoch(other, STEPS, (1, 1), False)
