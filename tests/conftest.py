"""What several test modules share: data, small estimators, states to compare, devices.

Every test computes on the CPU unless it takes the ``device`` fixture.
"""

import os
import random
import signal
import sys
import warnings
from math import inf

import numpy as np
import pytest
import rich
import sklearn
import torch
import torch.nn.functional as F
from _pytest.doctest import DoctestModule
from hypothesis import settings
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from pretended_cuda import pretended_cuda
from threadpoolctl import threadpool_limits

import skgd._training.loop
from skgd import MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators import fits
from skgd._training import engines
from skgd._training.hyperparameters import Shared

# The rooms of the loops import numba, and so do their tests.
collect_ignore = [] if engines.is_installed() else ["compiled"]


def pytest_report_header(config):
    """Say what is left out."""
    return None if engines.is_installed() else "no numba: tests/compiled is left out"


# Helpers that assert say as much as tests do when they fail.
pytest.register_assert_rewrite("search_cases", "parity_cases", "bad_cases")

# The same examples in every run, and no clock.
settings.register_profile("skgd", derandomize=True, max_examples=20, deadline=None)
settings.load_profile("skgd")

N_ROWS, N_FEATURES = 60, 4

_rng = np.random.default_rng(0)
X = _rng.normal(size=(N_ROWS, N_FEATURES))
Y = X @ [[1, 0.3], [-2, 1], [0, -1], [0.5, 0]] + [3, -1] + _rng.normal(size=(N_ROWS, 2))
RAW = X * [1, 10, 100, 1000] + [0, 5, 50, 500]  # features of unlike scales
WEIGHT = _rng.integers(1, 4, N_ROWS).astype(float)

# What can be learned: the estimator and its targets.
TASKS = {
    "regression": (MiniBatchRegressor, Y[:, 0]),
    "two targets": (MiniBatchRegressor, Y),
    "two classes": (MiniBatchClassifier, np.where(Y[:, 0] > 3, "yes", "no")),
    "three classes": (MiniBatchClassifier, np.digitize(Y[:, 0], [2, 4]) - 1),
}

# What models in training have in common, for tests below the estimators.
SHARED = Shared(
    loss="squared_error",
    activation="tanh",
    negative_slope=0.0,
    optimizer="sgd",
    nesterov=False,
    batch_size=7,
    last_batch="keep",
    shuffle=True,
    max_iter=12,
    tol=None,
    n_iter_no_change=2,
    record_batch_loss=True,
    verbose=False,
)

# Settings at which the whole-batch descents of this suite converge fast, one for each
# entry of skgd's table of optimizers. Adam and RMSprop with their usual epsilon never
# settle to more than a few digits: near a minimum their steps grow again. Those of
# Adagrad only ever become smaller, and so begin large.
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "lr": 0.3},
    "momentum": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
    "nesterov": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    "adagrad": {"optimizer": "adagrad", "lr": 2.0},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.05, "epsilon": 0.1},
    "adam": {"optimizer": "adam", "lr": 0.05, "epsilon": 0.1},
    "adamw": {"optimizer": "adamw", "lr": 0.05, "epsilon": 0.1},
}
# AdamW comes to rest elsewhere than at the minimum of the penalised objective.
MINIMISERS = {name: params for name, params in OPTIMIZERS.items() if name != "adamw"}

# What torch has for each entry of skgd's table of activations.
NEGATIVE_SLOPE = 0.1
TORCH_ACTIVATIONS = {
    "elu": F.elu,
    "gelu": F.gelu,
    "identity": lambda z: z,
    "leaky_relu": lambda z: F.leaky_relu(z, NEGATIVE_SLOPE),
    "logistic": torch.sigmoid,
    "mish": F.mish,
    "relu": torch.relu,
    "selu": F.selu,
    "silu": F.silu,
    "softplus": lambda z: F.softplus(z, threshold=50),  # at 20 it is off by 2e-9
    "tanh": torch.tanh,
}

every_class = pytest.mark.parametrize("cls", [MiniBatchRegressor, MiniBatchClassifier])
every_task = pytest.mark.parametrize(("cls", "y"), TASKS.values(), ids=TASKS)
every_depth = pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
every_optimizer = pytest.mark.parametrize(
    "optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS
)
every_minimiser = pytest.mark.parametrize(
    "optimizer", MINIMISERS.values(), ids=MINIMISERS
)


def pytest_configure(config):
    """Compute on one thread in each of the workers of ``-n``, which share the cores.

    Others would spin while they wait: scikit-learn's, of which torch knows nothing, and
    those of the processes that tests start.
    """
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        threadpool_limits(1, user_api="openmp")
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Look for no doctests in tests: there are none, and it takes seconds."""
    collectors = yield
    return [one for one in collectors if not isinstance(one, DoctestModule)]


def pytest_itemcollected(item):
    """Refuse an id with an address in it: the workers of ``-n 2`` would not agree."""
    if " at 0x" in item.nodeid.lower():
        raise pytest.UsageError(f"give this parameter an id of its own: {item.nodeid}")


# A pretended device takes a tenth of a millisecond for each operation, too long for
# descents of thousands of steps.
real_devices = pytest.mark.parametrize("device", ["cpu", "cuda"], indirect=True)


@pytest.fixture
def no_window():
    """Draw without a screen, and close what was drawn."""
    from matplotlib import pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(params=["cpu", "cuda", "pretended"])
def device(request):
    """Give every device of this machine, and skip with a word what it lacks.

    "pretended" is "cuda" on every machine, see ``pretended_cuda``.
    """
    if request.param == "pretended":
        with pretended_cuda():
            yield "cuda:0"
    elif request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    else:
        yield request.param


@pytest.fixture(autouse=True, scope="session")
def _torch_warns_every_time():
    """Let torch repeat the warnings that it gives once a process: no test hides one."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.fixture(autouse=True)
def _own_handler():
    """Let Ctrl-C be Python's own to handle: under nohup, and in some CI, it is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["torch", "numba"], scope="module")
def engine(request):
    """Let engine="auto" be torch, and then the compiled loops wherever they can train.

    Elsewhere it is as the rule says, which for steps as small as ours is the latter.
    What could be trained by the loops has been, or the module fails in the end.
    """
    if request.param == "numba" and engines.why_no_numba():
        pytest.skip("no numba on this machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_LOOPS_WIN", inf if request.param == "numba" else 0)
        chosen = _chosen_where_free(patch)
        yield request.param
    assert chosen <= {request.param}


def _chosen_where_free(patch):
    """Return a set that gets who trains the fits that either engine could train."""
    chosen, engine_of = set(), engines.engine_of

    def choose(data, layout, shared, wants_steps):
        engine = engine_of(data, layout, shared, wants_steps)
        lacks = [*engines._lacks(data, layout, shared, wants_steps)]
        if shared.engine == "auto" and not lacks:
            chosen.add(engine)
        return engine

    patch.setattr(fits, "engine_of", choose)
    return chosen


on_both_engines = pytest.mark.usefixtures("engine")
# The same as an axis of ``every_pair``, in modules that are on both.
every_engine = pytest.mark.parametrize("engine", ["torch", "numba"], indirect=True)
needs_numba = pytest.mark.skipif(
    bool(engines.why_no_numba()), reason="no numba on this machine"
)


@pytest.fixture(scope="module")
def one_thread():
    """Compute in one thread: waking others takes longer than these small fits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def epochs(monkeypatch):
    """Give a list that gets the number of models of every epoch that is trained."""
    trained = []
    bind_epochs = skgd._training.loop.bind_epochs

    def bind(stack, *args):
        run_epochs = bind_epochs(stack, *args)

        def run(at_most, going, *more):
            several = run_epochs(at_most, going, *more)
            trained.extend([len(stack.members)] * len(several))
            return several

        return run

    monkeypatch.setattr(skgd._training.loop, "bind_epochs", bind)
    return trained


@pytest.fixture(scope="session")
def loky_at_last():
    """End the processes of joblib, the same for all tests: they start slowly."""
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Run all tests that need processes of joblib first, in one of the workers of -n.

    Each of them would start its own, anew after five minutes without work.
    """

    def need_none(item):
        fixtures = getattr(item, "fixturenames", ())
        return "loky_at_last" not in fixtures and "loky" not in item.name

    items.sort(key=need_none)


@pytest.fixture
def loky(loky_at_last):
    """Let n_jobs=2 be processes."""
    with parallel_config("loky"):
        yield


@pytest.fixture
def wide_console():
    """Let rich write lines of 200 characters, whatever the terminal.

    rich has one console for the process, which keeps the width that COLUMNS says when
    it is made. The workers of ``-n 2`` have COLUMNS=80 of readline's, by way of pytest.
    """
    rich.reconfigure(width=200)
    yield
    rich.reconfigure()


def small(cls, **params):
    """Return an estimator that trains for 3 seeded epochs of batches that remain."""
    few = {"batch_size": 8, "max_iter": 3, "tol": None, "random_state": 0}
    return cls(**{"device": "cpu", **few, **params})


def settled(cls, **params):
    """Return an estimator that trains on the whole batch until nothing moves."""
    many = {"batch_size": None, "max_iter": 1000}
    return small(cls, **{**many, **params})


def frozen(value):
    """Return a copy of the value to compare by ==, bit by bit where it holds arrays."""
    match value:
        case np.ndarray() if value.dtype != object:
            return value.dtype.str, value.shape, value.tobytes()
        case np.ndarray() | list() | tuple():
            return type(value).__name__, [frozen(item) for item in value]
        case dict():
            return {name: frozen(item) for name, item in value.items()}
        case np.random.Generator():
            return frozen(value.bit_generator.state)
        case np.random.RandomState():
            return frozen(value.get_state(legacy=False))
    return value


def contents(value):
    """Yield the value and everything in it."""
    yield value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from contents(item)


def global_state():
    """Return what belongs to the whole process, frozen."""
    return frozen(
        {
            "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
            "python": random.getstate(),
            "torch": torch.get_rng_state().numpy(),
            "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "dtype": torch.get_default_dtype(),
            "device": torch.get_default_device(),
            "signals": [signal.getsignal(number) for number in signal.valid_signals()],
            "scikit-learn": sklearn.get_config(),
            "recursion": sys.getrecursionlimit(),
            "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "precision": torch.get_float32_matmul_precision(),
            "cuda": (
                torch.backends.cuda.matmul.allow_tf32,
                torch.backends.cudnn.allow_tf32,
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.deterministic,
            ),
            "filters": warnings.filters[:],
            "floating point": np.geterr(),
            "environment": dict(os.environ),
            "directory": os.getcwd(),
        }
    )


def fitted_state(estimator):
    """Return what training has written on the estimator but for the time, frozen."""
    written = {k: v for k, v in vars(estimator).items() if k.endswith("_")}
    written.pop("time_curve_", None)
    return frozen(written)


def state_but_for_seen(classifier):
    """Return its fitted state but for the rows of each class, by which it balances."""
    state = fitted_state(classifier)
    state["_targets_"].pop("seen")
    return state


def layers_of(estimator):
    """Return the fitted weights, (units in, units out), and biases of all layers."""
    if hasattr(estimator, "coef_"):
        coefs = [np.atleast_2d(estimator.coef_).T]
        return coefs, [np.atleast_1d(estimator.intercept_)]
    return estimator.coefs_, estimator.intercepts_


def assert_same_layers(one, other, **tolerance):
    """Assert that two estimators have the same weights and biases, to the tolerance."""
    for arrays, others in zip(layers_of(one), layers_of(other), strict=True):
        for a, b in zip(arrays, others, strict=True):
            np.testing.assert_allclose(a, b, **tolerance)
