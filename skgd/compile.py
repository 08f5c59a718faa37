"""Compile all loops now, so that no fit has to: ``python -m skgd.compile``.

A loop is otherwise compiled when it is first used, and kept on disk, see the guide. For
images and continuous integration it may be done beforehand, on the kind of CPU that
they will run on. Small models are fitted here, of every kind that has a loop of its
own, with every loss, activation and optimizer.
"""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import product
from time import perf_counter
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
from scipy.sparse import csr_array

from skgd._equations.activations import ACTIVATIONS
from skgd._equations.optimizers import OPTIMIZERS, VARIANTS_OF_SGD
from skgd._estimators.classifier import MiniBatchClassifier
from skgd._estimators.parameters import LOSSES_OF_CLASSES, LOSSES_OF_NUMBERS
from skgd._estimators.regressor import MiniBatchRegressor
from skgd._training.csr import NARROW
from skgd._training.engines import why_no_numba

_N_ROWS, _N_FEATURES = 40, 3

# A step of one row is taken in another way than that of many.
_BATCH_SIZES = 1, 32

_SETTINGS_OF_OPTIMIZERS: list[dict[str, Any]] = [
    *({"optimizer": name} for name in sorted(OPTIMIZERS.keys() - VARIANTS_OF_SGD)),
    {"optimizer": "sgd", "momentum": 0.5},
    {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
]


def _compile(dtype: str) -> Iterator[tuple[str, int]]:
    """Compile the loops of a dtype kind by kind; give the kind and how many fits."""
    dense = np.random.default_rng(0).normal(size=(_N_ROWS, _N_FEATURES)).astype(dtype)
    network = {"hidden_layer_sizes": (4, 4)}
    linear = [*_with_each_loss(), *_with_each_optimizer()]
    of_networks = [
        *([*models, {**network, **params}] for *models, params in linear),
        *(
            [MiniBatchRegressor, 1, {**network, "activation": name}]
            for name in ACTIVATIONS
        ),
    ]
    kinds: list[tuple[str, Any, Any]] = [
        ("linear models", dense, linear),
        ("networks", dense, of_networks),
        *(
            (f"linear models on sparse rows of {width} columns, {index}", rows, linear)
            for width, index in product(("few", "many"), ("int32", "int64"))
            for rows in [_sparse(dense, width == "many", index)]
        ),
    ]
    for kind, X, models in kinds:
        for (cls, n, params), batch_size in product(models, _BATCH_SIZES):
            model = cls(engine="numba", max_iter=1, tol=None, **params)
            model.set_params(batch_size=batch_size, device="cpu", random_state=0)
            model.fit(X, _targets(cls, n))
        yield kind, len(models) * len(_BATCH_SIZES)


def _sparse(dense: Any, wide: bool, index: str) -> Any:
    """Return the rows of an array as a sparse matrix with indices of a dtype."""
    rows = csr_array(dense)
    parts = rows.data, rows.indices.astype(index), rows.indptr.astype(index)
    return csr_array(parts, (_N_ROWS, NARROW + 1 if wide else _N_FEATURES))


def _with_each_loss() -> Iterator[Sequence[Any]]:
    """Give estimators, the number of their targets or classes, and parameters.

    Descent by single rows has a loop for each loss.
    """
    for loss, n_targets in product(LOSSES_OF_NUMBERS, (1, 2)):
        yield MiniBatchRegressor, n_targets, {"loss": loss, "optimizer": "sgd"}
    for loss, n_classes in product(LOSSES_OF_CLASSES, (2, 3)):
        yield MiniBatchClassifier, n_classes, {"loss": loss, "optimizer": "sgd"}


def _with_each_optimizer() -> Iterator[Sequence[Any]]:
    """Give the same of estimators with each optimizer."""
    for params in _SETTINGS_OF_OPTIMIZERS:
        yield MiniBatchClassifier, 2, params


def _targets(cls: type, n: int) -> Any:
    """Return so many targets, or labels of so many classes, above 0 as some ask for."""
    rows = np.arange(_N_ROWS)
    if cls is MiniBatchClassifier:
        return rows % n
    return 1.0 + (rows if n == 1 else np.column_stack([rows] * n))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile the loops, and print what has been compiled in how many seconds."""
    parser = ArgumentParser(
        prog="python -m skgd.compile",
        description="Compile all loops of skgd now, so that no fit has to: half a "
        "minute and more for each dtype. They are kept where numba keeps what it "
        "compiles: in NUMBA_CACHE_DIR if that is set, else next to the package, else "
        "in the user's cache.",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=["float32", "float64"],
        default=["float32", "float64"],
        help="precisions to compile for; both, if not given",
    )
    options = parser.parse_args(arguments)
    if why := why_no_numba():
        parser.error(f"numba must be there to compile loops. {why}.")
    with catch_warnings():
        filterwarnings("error", "The compiled loops of skgd could not be kept")
        try:
            for dtype in options.dtype:
                _report(dtype)
        except UserWarning as nowhere:
            parser.exit(1, f"{nowhere}\n")


def _report(dtype: str) -> None:
    """Compile the loops of a dtype, and print how long each kind has taken."""
    began = perf_counter()
    for kind, n_fits in _compile(dtype):
        ended = perf_counter()
        print(f"{dtype}, {kind}: {ended - began:.1f} s, {n_fits} fits", flush=True)
        began = ended


if __name__ == "__main__":
    main()
