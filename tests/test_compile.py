"""``python -m skgd.compile``: what it compiles, and what it says."""

from collections import defaultdict

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
    found = []

    def choose(data, models, shared, wants_steps):
        assert shared.engine == "numba"
        found.append((data, models, shared))
        return "torch"

    monkeypatch.setattr(fits, "engine_of", choose)
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


def test_all_entries_are_compiled_for_all_loops(trained):
    """Every loss and optimizer in each kind, of one row and of many at a time."""
    skgd.compile.main(["--dtype", "float32"])
    used = defaultdict(set)
    for data, models, shared in trained:
        kind = kind_of(data, models), shared.batch_size == 1
        optimizer = optimizer_of(models, shared)
        used[kind] |= {shared.loss, optimizer, ("hidden", shared.activation)}
        assert data.x.shape[0] > 16
        assert data.y.dtype == torch.float32
    indices = [f"torch.{name}, {name}" for name in ("int32", "int64")]
    kinds = ["network", "dense", *map("wide, {}".format, indices)]
    kinds += map("narrow, {}".format, indices)
    assert used.keys() == {(kind, one) for kind in kinds for one in (True, False)}
    for (kind, _), names in used.items():
        assert names >= {*LOSSES, *OPTIMIZERS}
        assert kind != "network" or names >= {("hidden", name) for name in ACTIVATIONS}


def test_both_precisions_are_compiled_and_told(trained, capsys):
    """A line for each kind of loop, with the seconds that it took."""
    skgd.compile.main([])
    lines = capsys.readouterr().out.splitlines()
    dtypes = [line.partition(",")[0] for line in lines]
    assert dtypes == ["float32"] * 6 + ["float64"] * 6
    assert all(" s, " in line for line in lines)
    assert {data.y.dtype for data, *_ in trained} == {torch.float32, torch.float64}


def test_without_numba_it_says_what_to_install(monkeypatch, capsys):
    """And ends as commands do that are not understood."""
    why = "Got none; pip install 'skgd[numba]'"
    monkeypatch.setattr(skgd.compile, "why_no_numba", lambda: why)
    with pytest.raises(SystemExit, match="2"):
        skgd.compile.main([])
    assert "Got none; pip install 'skgd[numba]'" in capsys.readouterr().err
