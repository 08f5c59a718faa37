"""``python -m skgd.compile``: what it compiles, and what it says."""

from collections import defaultdict
from itertools import product

import pytest
import torch
from torch import Tensor

import skgd.compile
from skgd._equations.activations import ACTIVATIONS
from skgd._equations.losses import LOSSES
from skgd._equations.optimizers import OPTIMIZERS
from skgd._estimators import fits
from skgd._training.csr import is_wide


@pytest.fixture
def trained(monkeypatch):
    """Give a list of all that is to be trained by the loops; torch does it."""
    found, train = [], fits.train

    def choose(data, layout, shared, wants_steps):
        assert shared.engine == "numba"
        return "torch"

    def watched(data, models, shared, *others):
        found.append((data, models, shared))
        return train(data, models, shared, *others)

    monkeypatch.setattr(fits, "engine_of", choose)
    monkeypatch.setattr(fits, "train", watched)
    monkeypatch.setattr(skgd.compile, "why_no_numba", str)
    return found


def kind_of(data, models):
    """Return which loops train: those of networks, or of linear models on some rows."""
    if len(models.parameters.layers) > 1:
        return "network"
    if isinstance(data.x, Tensor):
        return "dense"
    width = "wide" if is_wide(data.x) else "narrow"
    return f"{width}, {data.x.columns.dtype}, {data.x.starts.dtype}"


def optimizer_of(models, shared):
    """Return the entry of the table of optimizers."""
    if "velocity" not in models.optimizer_state:
        return shared.optimizer
    return "nesterov" if shared.nesterov else "momentum"


def test_all_entries_are_compiled_for_all_loops(trained, capsys):
    """Every loss and optimizer in each kind and precision, of one row and of many.

    A line for each kind of loop tells the seconds that it took.
    """
    skgd.compile.main([])
    used = defaultdict(set)
    for data, models, shared in trained:
        kind = kind_of(data, models), shared.batch_size == 1, data.y.dtype
        optimizer = optimizer_of(models, shared)
        used[kind] |= {shared.loss, optimizer, ("hidden", shared.activation)}
        used[kind].add((shared.loss, optimizer))
        assert data.x.shape[0] > 16
    indices = [f"torch.{name}, {name}" for name in ("int32", "int64")]
    kinds = ["network", "dense", *map("wide, {}".format, indices)]
    kinds += map("narrow, {}".format, indices)
    dtypes = torch.float32, torch.float64
    assert used.keys() == set(product(kinds, (True, False), dtypes))
    for (kind, *_), names in used.items():
        assert names >= {*LOSSES, *OPTIMIZERS}
        assert kind != "network" or names >= {("hidden", name) for name in ACTIVATIONS}
    for dtype in dtypes:  # descent by single rows has a loop for each loss
        assert used["dense", True, dtype] >= {(loss, "sgd") for loss in LOSSES}
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(",")[0] for line in lines]
    assert told == ["float32"] * 6 + ["float64"] * 6
    assert all(" s, " in line for line in lines)


def test_one_precision_is_compiled_where_it_is_asked_for(trained, monkeypatch):
    """The other is not."""
    asked = []
    monkeypatch.setattr(skgd.compile, "_compile", lambda d: asked.append(d) or [])
    skgd.compile.main(["--dtype", "float32"])
    assert asked == ["float32"]


def test_without_numba_it_says_what_to_install(monkeypatch, capsys):
    """And ends as commands do that are not understood."""
    why = "Got none; pip install 'skgd[numba]'"
    monkeypatch.setattr(skgd.compile, "why_no_numba", lambda: why)
    with pytest.raises(SystemExit, match="2"):
        skgd.compile.main([])
    assert "Got none; pip install 'skgd[numba]'" in capsys.readouterr().err
