"""Rows that are read block by block: a fit of them is a fit of the same rows."""

import signal
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from bad_cases import assert_refused
from pretended_cuda import pretended_cuda
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import SGDRegressor
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgd import (
    Blocks,
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
)
from skgd._estimators.surveys import surveyed
from skgd._training.target_scale import scale_of

rng = np.random.default_rng(7)
X = rng.normal(size=(203, 4))
Y = X @ [1.0, -2.0, 0.5, 3.0] + rng.normal(size=203) + 40
LABELS = np.array(["low", "middle", "up"])[np.digitize(Y, [38, 42])]
WEIGHT = rng.integers(0, 4, size=203).astype(float)
# The rows of uneven blocks, one of them empty.
CUTS = [0, 50, 90, 90, 91, 160, 203]


def blocks_of(X, y, weight=None, cuts=CUTS, chunk_rows=64):
    """Return rows as blocks, cut at these places."""

    def block(a, b):
        return (X[a:b], y[a:b]) if weight is None else (X[a:b], y[a:b], weight[a:b])

    functions = [lambda a=a, b=b: block(a, b) for a, b in pairwise(cuts)]
    return Blocks.from_iterables(functions, chunk_rows=chunk_rows)


def weights_of(model):
    """Return all weights of a model as one vector."""
    if hasattr(model, "coef_"):
        return np.append(model.coef_, model.intercept_)
    return np.concatenate([w.ravel() for w in [*model.coefs_, *model.intercepts_]])


def assert_alike(one, other, rtol=1e-10):
    """Assert that two models are the same, and their curves."""
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=rtol)
    np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=rtol, atol=rtol)
    assert (one.t_, one.n_iter_) == (other.t_, other.n_iter_)


REGRESSORS = {
    "linear": {},
    "network": {"hidden_layer_sizes": (5,), "alpha": 0.01},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "batch_size": 7},
    "whole batches": {"batch_size": None},
    "by itself": {"batch_size": 1, "optimizer": "sgd"},
    "drops": {"last_batch": "drop"},
    "steps down": {"lr_schedule": "step", "decay_every": 2, "batch_size": 10},
    "cosine": {"lr_schedule": "cosine", "warmup_steps": 5},
    "adaptive": {"tol": 10.0, "n_iter_no_change": 1, "max_iter": 8},
    "averages": {"average": 5, "max_grad_norm": 1.0},
    "absolute": {"loss": "absolute_error"},
    "as it is": {"normalize_y": False, "lr": 0.5},
    "poisson": {"loss": "poisson"},
}


@pytest.mark.filterwarnings("ignore:Training stopped")
@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_blocks_in_order_are_the_rows_in_order(name, engine, weight):
    """Without shuffling, rows of uneven blocks and windows are a fit of the rows."""
    settings = {"max_iter": 4, "tol": None, "shuffle": False, "engine": engine}
    settings |= {"random_state": 0} | REGRESSORS[name]
    chunk_rows = 64 if settings.get("batch_size", 1) else 203
    model = MiniBatchRegressor(**settings)
    plain = MiniBatchRegressor(**settings)
    model.fit(blocks_of(X, Y, weight, chunk_rows=chunk_rows))
    plain.fit(X, Y, weight)
    # Adam moves a bias whose gradient is nothing but rounding.
    assert_alike(model, plain, rtol=1e-8)
    assert model.engine_ == engine


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden_layer_sizes": (6, 3), "dropout": 0.3},
        {"batch_size": 20, "last_batch": "fill"},
        {"batch_size": None, "hidden_layer_sizes": (3,)},
        {"dtype": "float32", "hidden_layer_sizes": (3,)},
    ],
)
def test_one_block_is_a_fit_of_its_rows(settings):
    """A single window draws what a fit of its rows draws, bit for bit but for sums."""
    settings = {"max_iter": 3, "tol": None, "random_state": 3, **settings}
    of_blocks = MiniBatchRegressor(**settings).fit(
        blocks_of(X, Y, cuts=[0, 203], chunk_rows=1000)
    )
    rtol = 1e-5 if "dtype" in settings else 1e-10
    assert_alike(of_blocks, MiniBatchRegressor(**settings).fit(X, Y), rtol)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"low": 3.0, "up": 0.5}])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_classes_are_those_of_all_blocks(class_weight, weight, loss):
    """Blocks sorted by their label make the classifier of the rows, in words too."""
    order = np.argsort(LABELS, kind="stable")
    rows, labels = X[order], LABELS[order]
    weight = None if weight is None else weight[order]
    settings = {"max_iter": 3, "tol": None, "shuffle": False, "loss": loss}
    model = MiniBatchClassifier(class_weight=class_weight, **settings)
    plain = MiniBatchClassifier(class_weight=class_weight, **settings)
    model.fit(blocks_of(rows, labels, weight))
    assert_alike(model, plain.fit(rows, labels, weight))
    assert model.predict(X).tolist() == plain.predict(X).tolist()


def test_several_outputs_and_labels():
    """Several targets with scales of their own, and several labels a row, likewise."""
    targets = np.column_stack([Y, 100 * X[:, 0], np.full(len(X), 3.0)])
    settings = {"max_iter": 3, "tol": None, "shuffle": False}
    model = MiniBatchRegressor(**settings).fit(blocks_of(X, targets, WEIGHT))
    assert_alike(model, MiniBatchRegressor(**settings).fit(X, targets, WEIGHT))
    labels = (targets[:, :2] > 0).astype(int)
    for given in (None, "balanced"):
        of_labels = MiniBatchClassifier(class_weight=given, **settings)
        of_blocks = clone(of_labels).fit(blocks_of(X, labels, WEIGHT))
        assert_alike(of_blocks, of_labels.fit(X, labels, WEIGHT))


def order_of_epoch(seed, cuts, window):
    """Return the rows in the order that an epoch of windows draws them."""
    draws, parts = np.random.default_rng(seed), []
    for block in draws.permutation(len(cuts) - 1):
        parts.append(np.arange(cuts[block], cuts[block + 1]))
    rows = np.concatenate(parts)
    pieces = [rows[at : at + window] for at in range(0, len(rows), window)]
    return np.concatenate([piece[draws.permutation(len(piece))] for piece in pieces])


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_rows_are_mixed_over_blocks_and_windows(engine):
    """An epoch is a fit of the rows laid as drawn: blocks first, then by windows."""
    settings = {"max_iter": 1, "tol": None, "batch_size": 10, "engine": engine}
    model = MiniBatchRegressor(random_state=5, **settings)
    model.fit(blocks_of(X, Y, WEIGHT))  # windows of 64 rows hold six batches
    order = order_of_epoch(5, CUTS, 60)
    assert sorted(order) == list(range(203))
    plain = MiniBatchRegressor(shuffle=False, **settings)
    assert_alike(model, plain.fit(X[order], Y[order], WEIGHT[order]))


@pytest.mark.parametrize("make", [MiniBatchRegressor, MiniBatchClassifier])
def test_windows_are_copied_to_a_device(make):
    """On a device, steps are taken on a copy of each window: the model is the same."""
    targets = Y if make is MiniBatchRegressor else LABELS
    settings = {"max_iter": 2, "tol": None, "random_state": 0, "batch_size": 10}
    with pretended_cuda():
        model = make(device="cuda", **settings).fit(blocks_of(X, targets, WEIGHT))
    plain = make(engine="torch", **settings).fit(blocks_of(X, targets, WEIGHT))
    assert_alike(model, plain)


@pytest.mark.parametrize("scoring", ["loss", None, "neg_mean_absolute_error"])
def test_early_stopping_holds_out_whole_blocks(scoring):
    """A share of the blocks is held out, as if handed in as X_val; and no more."""
    settings = {"early_stopping": True, "scoring": scoring, "shuffle": False}
    settings |= {"validation_fraction": 0.4, "max_iter": 60, "lr": 0.02}
    model = MiniBatchRegressor(random_state=0, **settings)
    model.fit(blocks_of(X, Y, WEIGHT, chunk_rows=100))
    seed = int(np.random.default_rng(0).integers(2**31))
    full = [block for block in range(6) if block != 2]
    order = np.random.default_rng(seed).permutation(full)
    rows = [np.arange(CUTS[block], CUTS[block + 1]) for block in order]
    n = max(1, sum(np.cumsum([len(some) for some in rows]) <= 0.4 * 203))
    held, left = np.concatenate(rows[:n]), np.sort(np.concatenate(rows[n:]))
    plain = MiniBatchRegressor(random_state=0, **settings)
    held_out = {"X_val": X[held], "y_val": Y[held], "sample_weight_val": WEIGHT[held]}
    plain.fit(X[left], Y[left], WEIGHT[left], **held_out)
    assert_alike(model, plain)
    np.testing.assert_allclose(
        model.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-10
    )
    with pytest.raises(ValueError, match="single block"):
        model.fit(blocks_of(X, Y, cuts=[0, 203]))


@pytest.mark.filterwarnings("ignore:Training stopped")
def test_held_out_rows_of_ones_own():
    """X_val judges a fit of blocks as one of rows, with the balance of all classes."""
    settings = {"shuffle": False, "class_weight": "balanced", "early_stopping": True}
    held_out = {"X_val": X[:50], "y_val": LABELS[:50]}
    model = MiniBatchClassifier(max_iter=9, scoring="loss", **settings)
    plain = MiniBatchClassifier(max_iter=9, scoring="loss", **settings)
    model.fit(blocks_of(X, LABELS), **held_out)
    plain.fit(X, LABELS, **held_out)
    assert_alike(model, plain)
    np.testing.assert_allclose(
        model.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-10
    )


def test_a_warm_start_goes_on():
    """Two epochs and two more, the latter of blocks, are four."""
    settings = {"tol": None, "random_state": 0, "lr_schedule": "constant"}
    one_block = blocks_of(X, Y, cuts=[0, 203], chunk_rows=1000)
    model = MiniBatchRegressor(max_iter=2, warm_start=True, **settings)
    model.fit(X, Y).fit(one_block)
    plain = MiniBatchRegressor(max_iter=4, **settings).fit(X, Y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-10)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson"])
def test_digests_stand_for_the_rows(loss, weight):
    """Of digests the scale is that of all targets, and losses of constants nearly."""
    model = MiniBatchRegressor(loss=loss)
    blocks = blocks_of(X, Y, weight)
    digests, _ = surveyed(
        model, blocks, known=None, dtypes=[np.dtype(float)], first=True
    )
    of_log = {"log_link": loss == "poisson", "fit_intercept": True}
    scale = scale_of(digests.targets, digests.weight, **of_log)
    exact = scale_of(Y[np.newaxis], weight, **of_log)
    np.testing.assert_allclose(scale.shift, exact.shift, rtol=1e-12)
    np.testing.assert_allclose(scale.scale, exact.scale, rtol=1e-12)
    in_all = len(Y) if weight is None else weight.sum()
    np.testing.assert_allclose(digests.weight.sum(), in_all)


# ---- files ----


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two files of several row groups."""
    columns = {f"x{i}": X[:, i].astype(np.float32) for i in range(4)}
    table = pa.table({**columns, "y": Y, "w": WEIGHT, "label": LABELS})
    pq.write_table(table[:110], tmp_path / "a.parquet", row_group_size=40)
    pq.write_table(table[110:], tmp_path / "b.parquet", row_group_size=40)
    return tmp_path


NAMES = ["x0", "x1", "x2", "x3"]
SETTINGS = {"max_iter": 3, "tol": None, "shuffle": False, "random_state": 0}


def test_a_dataset_without_its_targets_is_refused(folder):
    """They are a column, which must be named."""
    with pytest.raises(ValueError, match=r"fit requires y.*the name of its column"):
        MiniBatchRegressor().fit(ds.dataset(folder))


def test_a_dataset_is_a_fit_of_its_rows(folder):
    """Columns by name make the model of the rows, in float32, which knows the names."""
    columns = [*NAMES, "y", "w"]
    dataset = ds.dataset(folder).replace_schema(
        pa.schema([ds.dataset(folder).schema.field(name) for name in columns])
    )
    model = MiniBatchRegressor(**SETTINGS).fit(dataset, "y", sample_weight="w")
    assert_alike(model, MiniBatchRegressor(**SETTINGS).fit(np.float32(X), Y, WEIGHT))
    assert model.coef_.dtype == np.float32
    assert model.feature_names_in_.tolist() == NAMES


def test_labels_in_words_and_some_columns(folder):
    """Words of a column are classes, dictionaries too; X is the columns named."""
    blocks = Blocks.from_parquet(
        str(folder), "label", columns=["x2", "x0"], chunk_rows=64
    )
    assert blocks.n_blocks == 6
    model = MiniBatchClassifier(**SETTINGS).fit(blocks)
    plain = MiniBatchClassifier(**SETTINGS).fit(np.float32(X[:, [2, 0]]), LABELS)
    assert_alike(model, plain)
    for path in folder.iterdir():
        table = pq.read_table(path)
        encoded = table["label"].dictionary_encode()
        place = table.schema.get_field_index("label")
        pq.write_table(table.set_column(place, "label", encoded), path)
    blocks = Blocks.from_parquet(folder, "label", columns=["x2", "x0"], chunk_rows=64)
    assert_alike(MiniBatchClassifier(**SETTINGS).fit(blocks), plain)


def test_a_transformer_over_the_same_blocks(folder):
    """A scaler fitted over the blocks, and mapped over them, scales as it scales X."""
    blocks = Blocks.from_parquet(folder, "y", columns=NAMES, chunk_rows=64)
    scaler = StandardScaler()
    for rows, _, _ in blocks:
        scaler.partial_fit(rows)
    model = MiniBatchRegressor(**SETTINGS).fit(blocks.map(scaler))
    rows = StandardScaler().fit_transform(np.float64(np.float32(X)))
    assert_alike(model, MiniBatchRegressor(**SETTINGS).fit(rows, Y), rtol=1e-6)


class Tasks:
    """Callback that counts tasks, and stops the fit in one of them."""

    def __init__(self, stop=()):
        self.tasks, self.stop = [], stop

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        task = context.task_name, context.task_id
        self.tasks.append(("end", *task))
        return task == self.stop


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_windows_are_tasks_of_an_epoch(engine):
    """Callbacks see how far an epoch is, window by window, and may stop it there."""
    model = MiniBatchRegressor(max_iter=2, tol=None, batch_size=10, engine=engine)
    every, stops = Tasks(), Tasks(stop=("window", 1))
    model.set_callbacks(every).fit(blocks_of(X, Y))
    of_epoch = [(when, "window", n) for n in range(4) for when in ("begin", "end")]
    windows = [task for task in every.tasks if task[1] == "window"]
    assert windows == [*of_epoch, *of_epoch]
    model.set_callbacks(stops).fit(blocks_of(X, Y))
    assert model.t_ == 12  # two windows of six batches
    assert stops.tasks.count(("end", "epoch", 0)) == 1
    assert not readers()


class AfterAnEpoch:
    """Callback that does something after the first epoch, and may stop the fit."""

    def __init__(self, act):
        self.act, self.n_epochs = act, 0

    def setup(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...
    def teardown(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return bool(context.task_name == "epoch" and self.act())


def readers():
    """Return the threads that read blocks."""
    return [one for one in threading.enumerate() if "skgd" in one.name]


def in_another_schema(path):
    """Write a file anew with columns of another dtype."""
    table = pq.read_table(path)
    doubles = table["x1"].cast(pa.float64())
    pq.write_table(table.set_column(1, "x1", doubles), path, row_group_size=40)


def with_fewer_rows(path):
    """Write a file anew with fewer rows."""
    pq.write_table(pq.read_table(path)[:90], path, row_group_size=40)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (Path.unlink, OSError, r"Row group 0 of .*b\.parquet must stay .*No such file"),
        (in_another_schema, ValueError, r"Row group 0 of .*b\.parquet .*x1: double"),
        (with_fewer_rows, ValueError, r"row group 2 of .*b\.parquet must have 13 rows"),
    ],
)
def test_a_file_that_changes_is_named(folder, change, error, words):
    """What goes, or is another, in epoch 2 is named; the model is as it was."""
    blocks = Blocks.from_parquet(folder, "y", columns=NAMES, chunk_rows=64)
    model = MiniBatchRegressor(**SETTINGS).fit(blocks)
    before = dict(vars(model))
    callback = AfterAnEpoch(lambda: change(folder / "b.parquet") and False)
    if change is with_fewer_rows:
        words = r"row group 2 of .*b\.parquet must (stay|have)|Row group 2 of"
        error = (OSError, ValueError)
    model.set_callbacks(callback)
    with pytest.raises(error, match=words):
        model.fit(blocks)
    assert callback.n_epochs == 1
    assert not readers()
    after = {name: vars(model)[name] for name in before}
    assert all(after[name] is before[name] for name in before)


def test_a_fit_that_is_ended_leaves_no_thread(folder):
    """A callback and the clock end a fit of blocks at a step, and nobody reads on."""
    blocks = Blocks.from_parquet(folder, "y", columns=NAMES, chunk_rows=64)
    model = MiniBatchRegressor(**{**SETTINGS, "max_iter": 50}, batch_size=8)
    model.set_callbacks(AfterAnEpoch(lambda: True)).fit(blocks)
    assert model.n_iter_ == 1
    model.set_callbacks().set_params(max_time=1e-9, batch_size=1, max_iter=5).fit(
        blocks
    )
    assert 0 < model.t_ < 203
    assert not readers()


def test_ctrl_c_ends_a_fit_of_blocks_at_a_step():
    """Ctrl-C leaves a model that was stored after a whole step, and nobody reads on."""
    model = MiniBatchRegressor(max_iter=50, tol=None, batch_size=1)
    model.set_callbacks(AfterAnEpoch(lambda: signal.raise_signal(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt, match="203 steps"):
        model.fit(blocks_of(X, Y))
    assert model.predict(X).shape == (203,)
    assert not readers()


def test_what_cannot_be_read_again_is_refused():
    """A generator, and functions that are none, are refused in words."""
    with pytest.raises(TypeError, match=r"^X must be rows.* runs once"):
        MiniBatchRegressor().fit((part for part in [(X, Y)]), None)
    with pytest.raises(TypeError, match="runs once"):
        Blocks.from_iterables((lambda: (X, Y)) for _ in range(2))
    with pytest.raises(TypeError, match="wrap what reads"):
        Blocks.from_iterables([(X, Y)])
    with pytest.raises(TypeError, match=r"must return \(X, y\)"):
        MiniBatchRegressor().fit(Blocks.from_iterables([lambda: X]))
    with pytest.raises(ValueError, match="Got none"):
        Blocks.from_iterables([])
    with pytest.raises(ValueError, match="chunk_rows must be an int"):
        Blocks.from_iterables([lambda: (X, Y)], chunk_rows=0.5)


def test_blocks_are_for_fit_alone(folder):
    """A search, partial_fit, predict and X_val refuse blocks and datasets in words."""
    blocks, model = blocks_of(X, Y), MiniBatchRegressor(max_iter=1, tol=None)
    search = VectorizedGridSearchCV(model, {"alpha": [0.1, 1.0]})
    for data in (blocks, ds.dataset(folder)):
        with pytest.raises(TypeError, match="only fit reads block by block"):
            search.fit(data, Y)
        with pytest.raises(TypeError, match="only fit reads block by block"):
            model.partial_fit(data, Y)
        with pytest.raises(TypeError, match="only fit reads block by block"):
            MiniBatchRegressor(max_iter=1, tol=None).fit(X, Y).predict(data)
        with pytest.raises(TypeError, match="only fit reads block by block"):
            model.fit(blocks, X_val=data, y_val=Y)
    with pytest.raises(ValueError, match="y and sample_weight must be None"):
        model.fit(blocks, Y)
    for of_others in (SGDRegressor(), make_pipeline(StandardScaler(), model)):
        with pytest.raises(TypeError, match=r"Got Blocks.* hand on blocks\.map\(step"):
            of_others.fit(blocks, Y)
    with pytest.raises(TypeError, match=r"Got Blocks.* hand on blocks\.map\(step"):
        cross_validate(model, blocks)


def test_files_that_are_not_there_are_told(folder, tmp_path):
    """A path, a pattern, a folder without any; and a path where rows are asked for."""
    path = str(tmp_path / "clicks.parquet")
    with pytest.raises(FileNotFoundError, match=f"'{path}', which is not; look at the"):
        Blocks.from_parquet(path, "y")
    pattern = f"{folder}/*.parquet"
    with pytest.raises(FileNotFoundError, match="which is not; list the files of a pa"):
        Blocks.from_parquet(pattern, "y")
    (tmp_path / "empty").mkdir()
    for none in (tmp_path / "empty", []):
        with pytest.raises(ValueError, match=r"of Parquet or more. Got .* is none;"):
            Blocks.from_parquet(none, "y")
    said = r"^X must be rows. Got .*; .* skgd.Blocks.from_parquet\('.*', y="
    for given in (path, tmp_path):
        model = MiniBatchRegressor(batch_size=1)
        assert_refused(model.fit, given, "y", match=said, error=TypeError)
        assert_refused(model.partial_fit, given, [0.0], match=said, error=TypeError)
        model.fit([[0.0]], [0.0])
        assert_refused(model.predict, given, match=said, error=TypeError)


def test_bad_blocks_are_named(folder):
    """NaN, a change of columns or of length, sparse rows: an error names the block."""
    model, holes = MiniBatchRegressor(max_iter=2, tol=None), X.copy()
    holes[150, 2] = np.nan
    with pytest.raises(ValueError, match=r"In block 4: .*NaN"):
        model.fit(blocks_of(holes, Y))
    targets = np.where(np.arange(203) == 150, np.nan, Y)
    with pytest.raises(ValueError, match=r"In block 4: .*NaN"):
        model.fit(blocks_of(X, targets))
    narrow = Blocks.from_iterables([lambda: (X, Y), lambda: (X[:, :2], Y)])
    with pytest.raises(ValueError, match=r"In block 1: X has 2 features"):
        model.fit(narrow)
    with pytest.raises(ValueError, match=r"In block 0: X must be dense"):
        model.fit(Blocks.from_iterables([lambda: (csr_array(X), Y)]))
    lengths = iter([40] * 3 + [41] * 9)
    growing = Blocks.from_iterables([lambda: (X[: (n := next(lengths))], Y[:n])])
    with pytest.raises(ValueError, match=r"block 0 must have 40 rows"):
        model.fit(growing)
    with pytest.raises(ValueError, match="batch_size must be at most the chunk_rows"):
        MiniBatchRegressor(batch_size=100).fit(blocks_of(X, Y))
    with pytest.raises(ValueError, match="must have the columns"):
        Blocks.from_parquet(folder, "z")
    assert not readers()
    assert not hasattr(model, "t_")


def test_pyarrow_is_imported_when_it_is_asked_for(monkeypatch):
    """Where there is no pyarrow all else works, and from_parquet says what it needs."""
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    model = MiniBatchRegressor(max_iter=1, tol=None, engine="torch")
    model.fit(X, Y).fit(Blocks.from_iterables([lambda: (X, Y)]))
    with pytest.raises(ImportError, match=r"skgd\[parquet\]"):
        Blocks.from_parquet("folder", "y")
