"""The fits that compete: each function returns one, bound to a work and its data.

All train on the same rows of float32, with the same batch size, number of epochs,
learning rate and a penalty, without early stopping. (MLP divides the penalty by the
rows of a batch, torch's counts for intercepts too, and its squared error has no half:
the same work, but not the same numbers.) scikit-learn's SGDClassifier and SGDRegressor
know no batches, and take a step at every row.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor, nn

from benchmarks.timing import Run
from benchmarks.works import Data, Work
from skgd import MiniBatchClassifier, MiniBatchRegressor

PENALTY = 1e-4
WIDE = 500  # from so many columns on, a shuffled copy of X may cost more than it saves

Batches = Iterator[tuple[Any, Tensor]]


def fits_of(work: Work, data: Data, device: str) -> dict[str, Run]:
    """Return the fits that can be had of a work."""
    X, y = data
    tensors = (X, y) if work.sparse else on_device(work, data, device)
    ours_gets = tensors if device == "cuda" else data
    fits: dict[str, Run] = {
        engine: partial(fit, ours(work, device, engine), *ours_gets)
        for engine in engines(device)
    }
    plain = work.optimizer == "sgd" and not work.momentum
    if "SGD" in work.goals or (plain and not work.hidden):
        fits["SGD"] = partial(fit, sgd(work), X, y)
    if work.as_typed:
        return fits
    work = work._replace(epochs=work.few_epochs)
    fits["MLP"] = lambda: mlp(work).fit(X, y)
    if work.sparse:
        if work.optimizer != "sgd":
            return fits
        fits["torch loop"] = lambda: sparse_loop(work, *data)
        return fits
    fits["torch loop"] = lambda: torch_loop(work, *tensors)
    if work.n_features >= WIDE:
        fits["gathering loop"] = lambda: torch_loop(work, *tensors, gathered)
    if find_spec("skorch"):
        batches = of_skorch(work, data)
        fits["skorch"] = lambda: skorch(work, device).fit(*batches)
    if device == "cuda":
        fits["CUDA graph"] = lambda: graphed_loop(work, *tensors)
        if find_spec("cuml") and "SGD" in fits and work.n_outputs == 1:
            fits["cuml"] = lambda: cuml(work).fit(*tensors)
    return fits


def fit(model: Any, X: Any, y: Any) -> None:
    """Fit an estimator anew."""
    model.fit(X, y)


def engines(device: str) -> list[str]:
    """Return our engines, those that are there."""
    without_loops = device == "cuda" or not find_spec("numba")
    return ["torch"] if without_loops else ["numba", "torch"]


def ours(work: Work, device: str, engine: str = "auto") -> Any:
    """Return our estimator."""
    cls = MiniBatchClassifier if work.n_classes else MiniBatchRegressor
    if work.as_typed:
        return cls(random_state=0, device=device, engine=engine)
    return cls(
        engine=engine,
        hidden_layer_sizes=work.hidden,
        optimizer=work.optimizer,
        momentum=work.momentum,
        lr=work.lr,
        alpha=PENALTY,
        batch_size=work.batch_size,
        max_iter=work.epochs,
        tol=None,
        random_state=0,
        device=device,
    )


def mlp(work: Work) -> Any:
    """Return scikit-learn's multi-layer perceptron; it may have no hidden layer."""
    cls = MLPClassifier if work.n_classes else MLPRegressor
    return cls(
        hidden_layer_sizes=work.hidden,
        solver=work.optimizer,
        momentum=work.momentum,
        nesterovs_momentum=False,
        learning_rate_init=work.lr,
        alpha=PENALTY,
        batch_size=work.batch_size,
        max_iter=work.epochs,
        n_iter_no_change=work.epochs + 1,
        random_state=0,
    )


def sgd(work: Work) -> Any:
    """Return scikit-learn's linear model, which takes a step at every row."""
    if work.as_typed:
        return SGDClassifier(loss="log_loss", random_state=0)
    params = {
        "learning_rate": "constant",
        "eta0": work.lr,
        "alpha": PENALTY,
        "max_iter": work.epochs,
        "tol": None,
        "random_state": 0,
    }
    if work.n_classes:
        return SGDClassifier(loss="log_loss", **params)
    return SGDRegressor(**params)


def skorch(work: Work, device: str) -> Any:
    """Return the estimator of skorch, without its callbacks and its held-out rows."""
    from skorch import (
        NeuralNetBinaryClassifier,
        NeuralNetClassifier,
        NeuralNetRegressor,
    )

    classifiers = {None: NeuralNetRegressor, 2: NeuralNetBinaryClassifier}
    return classifiers.get(work.n_classes, NeuralNetClassifier)(
        layers,
        module__sizes=work.sizes,
        criterion=loss_of(work),
        optimizer=torch.optim.Adam if work.optimizer == "adam" else torch.optim.SGD,
        **{f"optimizer__{k}": v for k, v in optimizer_params(work).items()},
        batch_size=work.batch_size,
        max_epochs=work.epochs,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=10_000,
        train_split=None,
        callbacks="disable",
        verbose=0,
        device=device,
    )


def of_skorch(work: Work, data: Data) -> tuple[Tensor, Tensor]:
    """Return X and y as skorch wants them; it takes rows of tensors faster than arrays.

    They stay on the CPU: skorch collects the rows of a batch one by one.
    """
    X, y = on_device(work, data, "cpu")
    return X, y[:, 0] if work.n_classes == 2 else y


def cuml(work: Work) -> Any:
    """Return the linear model of cuML, for one output."""
    from cuml.linear_model import MBSGDClassifier, MBSGDRegressor

    cls = MBSGDClassifier if work.n_classes else MBSGDRegressor
    return cls(
        loss="log" if work.n_classes else "squared_loss",
        learning_rate="constant",
        eta0=work.lr,
        alpha=PENALTY,
        batch_size=work.batch_size,
        epochs=work.epochs,
        n_iter_no_change=work.epochs + 1,
        tol=0.0,
    )


# The loop that one writes by hand


def on_device(work: Work, data: Data, device: str) -> tuple[Tensor, Tensor]:
    """Return X and y as torch's losses want them: a column for one output."""
    X, y = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    if work.n_outputs == 1:
        y = y.to(torch.float32)[:, None]
    return X.to(device), y.to(device)


def layers(sizes: tuple[int, ...]) -> nn.Module:
    """Return a network with ReLU between its layers, from the same start every time."""
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def loss_of(work: Work) -> type[nn.Module]:
    """Return the loss that takes the outputs before their inverse link."""
    losses = {None: nn.MSELoss, 2: nn.BCEWithLogitsLoss}
    return losses.get(work.n_classes, nn.CrossEntropyLoss)


def optimizer_params(work: Work) -> dict[str, Any]:
    """Return torch's names for the settings; its fused updates are its fastest."""
    params = {"lr": work.lr, "weight_decay": PENALTY, "fused": True}
    return params if work.optimizer == "adam" else params | {"momentum": work.momentum}


def optimizer_of(
    work: Work, network: nn.Module, **params: Any
) -> torch.optim.Optimizer:
    """Return torch's optimizer for the network."""
    cls = torch.optim.Adam if work.optimizer == "adam" else torch.optim.SGD
    return cls(network.parameters(), **optimizer_params(work), **params)


def shuffled(X: Tensor, y: Tensor, batch_size: int) -> Batches:
    """Return the batches of an epoch, as views of a shuffled copy."""
    order = torch.randperm(len(X), device=X.device)
    return zip(X[order].split(batch_size), y[order].split(batch_size), strict=True)


def gathered(X: Tensor, y: Tensor, batch_size: int) -> Batches:
    """Return the batches of an epoch, whose rows are gathered one batch at a time."""
    order = torch.randperm(len(X), device=X.device)
    return ((X[rows], y[rows]) for rows in order.split(batch_size))


def train(
    network: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[], Batches],
    epochs: int,
) -> list[float]:
    """Train a network, and return the loss of each epoch, read once at its end."""
    curve = []
    for _ in range(epochs):
        losses = []
        for rows, targets in batches():
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(network(rows), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        curve.append(torch.stack(losses).mean().item())
    return curve


def torch_loop(
    work: Work,
    X: Tensor,
    y: Tensor,
    batches: Callable[[Tensor, Tensor, int], Batches] = shuffled,
) -> list[float]:
    """Train by autograd and torch.optim on batches, without a DataLoader."""
    network = layers(work.sizes).to(X.device)
    return train(
        network,
        loss_of(work)(),
        optimizer_of(work, network),
        lambda: batches(X, y, work.batch_size),
        work.epochs,
    )


class BagOfColumns(nn.Module):
    """A linear model of one output on sparse rows, whose gradients are sparse too."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(n_features, 1, mode="sum", sparse=True)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        columns, starts, values = batch
        return self.bag(columns, starts, per_sample_weights=values) + self.bias


def sparse_loop(work: Work, X: Any, y: np.ndarray) -> list[float]:
    """Train on the entries of CSR rows; torch has no penalty for sparse gradients."""
    network = BagOfColumns(work.n_features)
    optimizer = torch.optim.SGD(network.parameters(), lr=work.lr)
    targets = torch.from_numpy(y.astype(np.float32))[:, None]

    def batches() -> Batches:
        order = np.random.default_rng(0).permutation(work.n_rows)
        rows, goals = X[order], targets[order]
        for start in range(0, work.n_rows, work.batch_size):
            ends = rows.indptr[start : start + work.batch_size + 1]
            entries = slice(ends[0], ends[-1])
            batch = rows.indices[entries], ends[:-1] - ends[0], rows.data[entries]
            tensors = tuple(torch.from_numpy(part) for part in batch)
            yield tensors, goals[start : start + work.batch_size]

    return train(network, nn.BCEWithLogitsLoss(), optimizer, batches, work.epochs)


def graphed_loop(work: Work, X: Tensor, y: Tensor) -> list[float]:
    """Train by a step that CUDA has recorded; a batch that is short has none."""
    network = layers(work.sizes).to(X.device)
    criterion = loss_of(work)()
    capturable = {"capturable": True} if work.optimizer == "adam" else {}
    optimizer = optimizer_of(work, network, **capturable)
    rows, targets = X[: work.batch_size].clone(), y[: work.batch_size].clone()

    def step(rows: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(rows), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is allocated once is, before the recording
        for _ in range(3):
            step(rows, targets)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = step(rows, targets)

    curve = []
    for _ in range(work.epochs):
        total = torch.zeros((), device=X.device)
        for some, goals in shuffled(X, y, work.batch_size):
            if len(some) < len(rows):
                total += step(some, goals)
                continue
            rows.copy_(some)
            targets.copy_(goals)
            graph.replay()
            total += recorded
        curve.append(total.item() / work.steps)
    return curve
