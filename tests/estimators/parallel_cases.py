"""Fits of several processes, which each of them runs, and writes down what came of it.

``torchrun --nproc-per-node 3 parallel_cases.py FOLDER``; ``test_parallel`` starts it
once, and reads. Rows lie in partitions of unlike lengths, one of a single row.
"""

import os
import pickle
import signal
import sys
import time
import warnings
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch.distributed as dist
from sklearn.metrics import accuracy_score, make_scorer, r2_score

from skgd import Blocks, MiniBatchClassifier, MiniBatchRegressor, data_parallel
from skgd._estimators.parallel import Together, together_now, training_together
from skgd._estimators.weights import flat_weights

LENGTHS = (70, 1, 151, 25, 66)
LENGTHS_VAL = (40, 0, 0, 0, 20)  # a rank may have none
N, N_VAL = sum(LENGTHS), sum(LENGTHS_VAL)

# Which partitions lie on which rank, in which order.
PLACEMENTS = {
    "one": [[0, 1, 2, 3, 4]],
    "two": [[0, 1], [2, 3, 4]],
    "three": [[4, 1], [0], [3, 2]],
}


class Arrays(NamedTuple):
    """The rows of all partitions."""

    X: np.ndarray
    y: np.ndarray
    labels: np.ndarray
    several: np.ndarray
    weight: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    labels_val: np.ndarray


def arrays():
    """Return the rows of all partitions, the same in every process."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + N_VAL, 6))
    y = 90 + 5 * (X @ rng.normal(size=6) + 0.1 * rng.normal(size=len(X)))
    kinds = np.digitize(y, [87, 94])
    labels = np.array(["low", "middle", "high"])[kinds]
    several = np.stack([y > 88, y > 95, X[:, 0] > 0], axis=1).astype(int)
    weight = rng.uniform(0.2, 3, N)
    train, val = slice(N), slice(N, None)
    return Arrays(
        *(X[train], y[train], labels[train], several[train], weight),
        *(X[val], y[val], labels[val]),
    )


class Case(NamedTuple):
    """A fit: of which targets, by which parameters, of what besides."""

    targets: str  # "y", "labels" or "several"
    parameters: dict
    weighted: bool = False
    validated: bool = False
    kind: str = "float64"  # "float32", "csr"
    calls: int = 0  # of partial_fit, each of a part of the rows; 0 is one fit
    again: bool = False  # whether a second fit goes on
    tolerance: float = 1e-12

    def estimator(self):
        cls = MiniBatchRegressor if self.targets == "y" else MiniBatchClassifier
        given = {"random_state": 0, "tol": None, "max_iter": 3, "batch_size": 64}
        return cls(engine="torch", **{**given, **self.parameters})

    def X_of(self, X):
        if self.kind == "float32":
            return X.astype(np.float32)
        return (
            scipy.sparse.csr_array(np.where(X > 0.3, X, 0)) if self.kind == "csr" else X
        )


def looked_at(model, X, y):
    """A scorer of the caller's, which looks at the rows it is given."""
    return r2_score(y, model.predict(X)) + 1e-3 * X[0, 0]


def looked_at_labels(model, X, y):
    """The same, of classes."""
    return accuracy_score(y, model.predict(X)) + 1e-3 * X[0, 0]


CASES = {
    "descent": Case("y", {"optimizer": "sgd"}),
    "momentum": Case(
        "y", {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, weighted=True
    ),
    "clipped": Case(
        "y", {"hidden_layer_sizes": (8, 4), "max_grad_norm": 0.5, "batch_size": 50}
    ),
    "adamw": Case("y", {"optimizer": "adamw", "alpha": 0.1, "loss": "absolute_error"}),
    "ensemble": Case("y", {"hidden_layer_sizes": (4,), "n_models": 2}, again=True),
    "rmsprop": Case("labels", {"optimizer": "rmsprop", "loss": "hinge"}),
    "adagrad": Case("several", {"optimizer": "adagrad", "class_weight": "balanced"}),
    "whole": Case("y", {"optimizer": "sgd", "batch_size": None}, True),
    "balanced": Case("labels", {"class_weight": "balanced"}, True),
    "stops by the loss": Case(
        "labels",
        {
            "hidden_layer_sizes": (8,),
            "early_stopping": True,
            "scoring": "loss",
            "n_iter_no_change": 2,
            "max_iter": 8,
            "lr": 0.1,
        },
        validated=True,
    ),
    "stops by a score": Case(
        "labels",
        {"early_stopping": True, "scoring": "accuracy", "max_iter": 4},
        validated=True,
    ),
    "stops by a function": Case(
        "y",
        {
            "early_stopping": True,
            "scoring": looked_at,
            "max_iter": 4,
            "loss": "poisson",
        },
        validated=True,
    ),
    "held out": Case(
        "labels", {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 4}
    ),
    "settles": Case(
        "y", {"batch_size": 128, "max_iter": 12, "tol": 1e-2, "n_iter_no_change": 2}
    ),
    "averaged": Case("y", {"average": True, "alpha": 0.01, "l1_ratio": 0.5}),
    "quantile": Case(
        "y", {"loss": "quantile", "quantile": 0.9, "lr_schedule": "cosine"}
    ),
    "quantiles": Case(
        "y",
        {"loss": "quantile", "quantile": [0.9, 0.1], "early_stopping": True},
        weighted=True,
        validated=True,
    ),
    "poisson": Case("y", {"loss": "poisson", "record_batch_loss": True}),
    "filled": Case("y", {"last_batch": "fill"}),
    "dropped": Case("y", {"last_batch": "drop"}),
    "in order": Case("y", {"shuffle": False}),
    "single precision": Case(
        "y", {"hidden_layer_sizes": (8,)}, kind="float32", tolerance=2e-5
    ),
    "sparse": Case("labels", {"hidden_layer_sizes": (8,)}, kind="csr"),
    "chunks": Case("y", {"hidden_layer_sizes": (8,)}, True, calls=3),
    "chunks of more classes": Case(
        "labels",
        {"class_weight": "balanced", "scoring": "accuracy", "average": True},
        weighted=True,
        calls=3,
    ),
    "chunks scored by a function": Case("y", {"scoring": looked_at}, calls=3),
    "warm": Case("labels", {"warm_start": True, "max_iter": 2}, again=True),
}


def numbers_of(model):
    """Return what training has left, to be held against that of others."""
    told = {
        "weights": np.concatenate(
            [flat_weights(one) for one in getattr(model, "estimators_", [model])]
        ),
        "loss_curve": np.array(model.loss_curve_),
        "t": np.array(model.t_),
    }
    for name in (
        *("validation_loss_curve_", "validation_scores_", "batch_loss_curve_"),
        *("running_loss_", "running_score_", "running_rows_"),
    ):
        if hasattr(model, name):
            told[name] = np.array(getattr(model, name))
    if hasattr(model, "classes_"):
        told["classes"] = model.classes_
    return told


def fit(case, model, of, select, select_val):
    """Fit the model of a case to some of the rows of all."""
    X, y = case.X_of(of.X), getattr(of, case.targets)
    weight = of.weight[select] if case.weighted else None
    given = {}
    if case.validated and len(select_val):
        y_val = of.y_val if case.targets == "y" else of.labels_val
        given = {"X_val": of.X_val[select_val], "y_val": y_val[select_val]}
    if case.calls:
        if case.targets == "labels":  # with every call but the first, one class more
            more = ["other"] if hasattr(model, "t_") else []
            given = {"classes": [*np.unique(y), *more]}
        model.partial_fit(X[select], y[select], sample_weight=weight, **given)
    else:
        model.fit(X[select], y[select], weight, **given)


def rows_of(lengths, partitions):
    """Return the places of some partitions' rows among those of all."""
    starts = np.cumsum([0, *lengths])
    return np.concatenate([np.arange(starts[p], starts[p + 1]) for p in partitions])


def chunks_of(case, partitions):
    """Return the rows of each call of a fit, with how many of each partition."""
    several = [
        np.array_split(rows_of(LENGTHS, [p]), case.calls or 1) for p in partitions
    ]
    chunks = list(zip(*several, strict=True)) * (1 + case.again)
    return [(np.concatenate(chunk), [len(part) for part in chunk]) for chunk in chunks]


def fit_partitions(case, of, partitions):
    """Fit a case to the partitions that lie on this rank."""
    ranks, model = together_now().ranks, case.estimator()
    here_val = [(p, LENGTHS_VAL[p]) for p in partitions]
    select_val = rows_of(LENGTHS_VAL, partitions)
    for select, lengths in chunks_of(case, partitions):
        here = list(zip(partitions, lengths, strict=True))
        with training_together(Together(ranks, here, here_val)):
            fit(case, model, of, select, select_val)
    return model


# Fits of rows in blocks: of which targets, by which parameters.
OF_BLOCKS = {
    "descent": ("y", {"optimizer": "sgd", "batch_size": 32}),
    "by epochs": (
        "y",
        {"hidden_layer_sizes": (8,), "lr_schedule": "one_cycle", "max_iter": 4},
    ),
    "balanced": ("labels", {"class_weight": "balanced", "last_batch": "fill"}),
    "dropped": ("labels", {"last_batch": "drop", "shuffle": False, "average": True}),
    "held out": ("labels", {"early_stopping": True, "scoring": looked_at_labels}),
    "in one window": (
        "y",
        {"chunk_rows": 1000, "batch_size": None, "optimizer": "sgd"},
    ),
}


def fit_blocks(name, of):
    """Fit to rows in blocks of unlike lengths, a few of which make a window."""
    targets, parameters = OF_BLOCKS[name]
    parameters = {"batch_size": 16, **parameters}
    chunk_rows = parameters.pop("chunk_rows", 100)
    y = getattr(of, targets)
    parts = np.split(np.arange(N), [40, 41, 41, 120, 150, 151, 200, 260])
    blocks = Blocks.from_iterables(
        [lambda rows=rows: (of.X[rows], y[rows], of.weight[rows]) for rows in parts],
        chunk_rows=chunk_rows,
    )
    return Case(targets, parameters).estimator().fit(blocks)


class Told:
    """A callback that does something at the end of an epoch."""

    def __init__(self, act, epoch=1):
        self.act, self.epoch, self.seen = act, epoch, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "epoch":
            return False
        self.seen += 1
        return self.act() if self.seen == self.epoch else False


def stops():
    return True


def fails():
    raise ArithmeticError("a callback has failed")


def interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    return False


def leaves():
    raise SystemExit("left")


def fails_to_score(model, X, y):
    raise ZeroDivisionError("no score today")


def endings(rank):
    """Give what one rank does, by name: a function that fits, or fails to."""
    of = arrays()
    here = rows_of(LENGTHS, [[0], [1, 2], [3, 4]][rank])
    X, y, labels = of.X[here], of.y[here], of.labels[here]
    long = {"tol": None, "max_iter": 10**6, "random_state": 0, "batch_size": 64}

    def regressor(**parameters):
        return MiniBatchRegressor(**{**long, **parameters})

    def told(act, on, **parameters):
        model = regressor(**parameters)
        return model.set_callbacks(Told(act, 2)) if rank == on else model

    broken = np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X)
    few = {"max_iter": 3}
    yield "clock", lambda: regressor(max_time=0.05 if rank == 1 else None).fit(X, y)
    yield "callback stops", lambda: told(stops, 1).fit(X, y)
    yield "callback fails", lambda: told(fails, 2).fit(X, y)
    yield "Ctrl-C", lambda: told(interrupts, 0).fit(X, y)
    yield "not a number", lambda: regressor(**few).fit(broken if rank == 1 else X, y)
    yield "columns", lambda: regressor(**few).fit(X[:, : 6 - (rank == 2)], y)
    yield (
        "precision",
        lambda: regressor(**few).fit(X.astype(np.float32) if rank == 1 else X, y),
    )
    yield "parameters", lambda: regressor(max_iter=3, batch_size=32 + rank).fit(X, y)
    yield "weights on one", lambda: regressor(**few).fit(X, y, y if rank == 0 else None)
    yield "starts", lambda: regressor(**few).fit(X, y, coef_init=np.full(6, rank))
    yield "outputs", lambda: regressor(**few).fit(X, y if rank else np.c_[y, y])
    yield "diverges", lambda: regressor(optimizer="sgd", lr=1e6).fit(X, y)
    yield "one class", lambda: MiniBatchClassifier().fit(X, np.full(len(X), "a"))
    yield (
        "kinds of labels",
        lambda: MiniBatchClassifier().fit(X, labels if rank else y.astype(int)),
    )
    yield (
        "kinds of text",
        lambda: MiniBatchClassifier(**long | few).fit(
            X, labels if rank else labels.astype(object)
        ),
    )
    yield (
        "new classes",
        lambda: MiniBatchClassifier(**long | few).fit(X, np.full(len(X), rank)),
    )
    yield (
        "scorer fails",
        lambda: regressor(early_stopping=True, scoring=fails_to_score, **few).fit(
            X, y, X_val=X, y_val=y
        ),
    )
    yield (
        "held out elsewhere",
        lambda: MiniBatchClassifier(
            **long | few, early_stopping=True, scoring=make_scorer(accuracy_score)
        ).fit(X, labels, X_val=X if rank else None, y_val=labels if rank else None),
    )
    yield "blocks", lambda: regressor(**few).fit(breaking(of, rank == 1))
    yield "other blocks", lambda: regressor(**few).fit(several(of, 2 + rank // 2))
    yield "stream", lambda: regressor().partial_fit(broken if rank == 1 else X, y)
    yield (
        "classes",
        lambda: MiniBatchClassifier().partial_fit(
            X, labels, ["high", "low", "middle", "other"][: 4 - (rank == 1)]
        ),
    )
    kept = Path(sys.argv[1], "kept.skgd")
    for other in (X, X + (rank == 2)):  # a fit that has ended; and another one
        name = "kept" if other is X else "kept of others"
        yield name, lambda rows=other: regressor(**few).fit(rows, y, checkpoint=kept)
    yield (
        "kept by one",
        lambda: regressor().fit(X, y, checkpoint=None if rank else kept),
    )
    yield "random", lambda: regressor(random_state=None, **few).fit(X, y)
    yield "names", lambda: regressor(**few).fit(named(X, "abcdef"[rank:] + "xyz"), y)
    yield "states", lambda: goes_on(regressor(warm_start=True, **few), rank, X, y)
    yield "lost", lambda: told(leaves, 1).fit(X, y)
    yield "after that", lambda: regressor(**few).fit(X, y)


def several(of, n):
    """Return so many blocks of the same rows."""
    return Blocks.from_iterables([lambda: (of.X, of.y)] * n)


def breaking(of, on_this_rank):
    """Return blocks that can be read as often as before training, and then no more."""
    times = count()

    def read():
        if on_this_rank and next(times) > 10:
            raise OSError("no such file")
        return of.X, of.y

    return Blocks.from_iterables([read] * 6, chunk_rows=80)


PIECES = {
    "rows": {"optimizer": "adam", "max_iter": 3},
    "held-out rows": {"early_stopping": True, "average": True, "max_iter": 3},
    "blocks": {"max_iter": 2, "hidden_layer_sizes": (4,)},
}


def in_pieces(case, rank, of, folder):
    """Return a fit, and one that the clock of one rank has ended after each few steps.

    Each of its calls goes on in the file of the one before.
    """
    here = rows_of(LENGTHS, [[0], [1, 2], [3, 4]][rank])
    given = of.X[here], of.y[here]
    if case == "blocks":
        reads = [lambda n=n: (of.X[n::6], of.y[n::6]) for n in range(6)]
        given = (Blocks.from_iterables(reads, chunk_rows=130),)
    parameters = {"tol": None, "random_state": 0, "batch_size": 64, **PIECES[case]}
    whole = MiniBatchRegressor(**parameters).fit(*given)
    over = 1e-9 if rank == 1 else None
    ts = [0]
    while ts[-1] < whole.t_ and len(ts) < 99:
        model = MiniBatchRegressor(max_time=over, **parameters)
        model.fit(*given, checkpoint=folder / f"{case}.skgd")
        ts.append(model.t_)
    return numbers_of(whole), numbers_of(model), ts


def named(X, names):
    """Return a frame of X."""
    return pd.DataFrame(X, columns=list(names[: X.shape[1]]))


def goes_on(model, rank, X, y):
    """Go on from a fit that one rank has changed."""
    model.fit(X, y)
    if rank == 1:
        model.coef_ = 2 * model.coef_
    return model.fit(X, y)


def outcome(act):
    """Return the numbers of what is fitted, or the error in words."""
    try:
        return numbers_of(act())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def open_here():
    """Return how many threads and open files this process has, where they are told."""
    folders = [Path("/proc/self/task"), Path("/proc/self/fd")]
    return [len(os.listdir(one)) for one in folders if one.is_dir()]


def open_at_the_end(before):
    """Return the same as soon as it is no more than before; or ten seconds later.

    Threads of gloo's end, and sockets close, a while after nobody holds them any more.
    """
    end = time.monotonic() + 10
    while more_than(before, open_here()) and time.monotonic() < end:
        time.sleep(0.02)
    return open_here()


def more_than(before, now):
    """Return whether of anything there is more now."""
    return any(one > other for one, other in zip(now, before, strict=True))


def main(folder):
    """Run everything, and write down what came of it on this rank."""
    # A fork has the launcher's handler, which knows no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    rank, of = dist.get_rank(), arrays()
    told = {"timeout": outcome(lambda: late(rank))}
    pair = dist.new_group([0, 1])
    before = open_here()
    for name, group in (("three", None), ("two", pair)):
        if name == "two" and rank == 2:
            continue
        with data_parallel(group):
            partitions = PLACEMENTS[name][rank]
            for case, what in CASES.items():
                told[name, case] = numbers_of(fit_partitions(what, of, partitions))
            for case in OF_BLOCKS:
                told[name, "blocks", case] = numbers_of(fit_blocks(case, of))
    if rank < 2:
        with data_parallel(pair):
            again = fit_partitions(CASES["descent"], of, PLACEMENTS["two"][rank])
            told["two", "descent again"] = numbers_of(again)
    with data_parallel():
        for case in PIECES:
            told["pieces", case] = in_pieces(case, rank, of, Path(folder))
        for name, act in endings(rank):
            told[name] = outcome(act)
    with data_parallel():
        told["anew"] = outcome(lambda: MiniBatchRegressor(max_iter=1).fit(of.X, of.y))
    told["left"] = before, open_at_the_end(before)
    Path(folder, f"rank{rank}.pkl").write_bytes(pickle.dumps(told))
    dist.destroy_process_group()


def late(rank):
    """Fit where one rank comes when the others have given it up."""
    of = arrays()
    dist.barrier()  # who is late to the context is given up as well
    with data_parallel(timeout=1):
        if rank == 2:
            dist.barrier()
        try:
            return MiniBatchRegressor().fit(of.X, of.y)
        finally:
            if rank != 2:
                dist.barrier()


if __name__ == "__main__":
    main(sys.argv[1])
