"""A fit that is cut short goes on to the bits of one that was not."""

import os
import signal
import time
import warnings
from itertools import count

import numpy as np
import pytest
from conftest import OPTIMIZERS, TASKS, WEIGHT, X, Y, frozen, small
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skgd._training.csr
from skgd import Blocks, MiniBatchClassifier, MiniBatchRegressor
from skgd._estimators import checkpoints
from skgd._machine.trees import decode, encode
from skgd._training import compiled, stepwise
from skgd._training.engines import why_no_numba

y = Y[:, 0]
labels = TASKS["three classes"][1]
STEPS = 8  # of an epoch of 60 rows in batches of 8


class Killed(BaseException):
    """What ends a fit in these tests, as nothing can be done about."""


def of(model):
    """Return all that an estimator is but for the time, frozen."""
    apart = ("time_curve_", "_skl_callbacks", "note_")
    return frozen({n: one for n, one in vars(model).items() if n not in apart})


def cut_short(monkeypatch, model, *data, after, path, **given):
    """Fit until the checkpoint was written so many times, and say at which step."""
    at, writes = [], count(1)
    write = checkpoints.write_atomically

    def killing(path, data):
        write(path, data)
        kept = decode(data)["progress"]
        steps = len(kept["point"]["losses"]) if kept["point"] else 0
        at.append(kept["t"] + steps)
        if next(writes) == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_atomically", killing)
        with pytest.raises(Killed):
            model.fit(*data, checkpoint=path, checkpoint_seconds=0, **given)
    return at[-1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.skgd"


@pytest.fixture(autouse=True)
def a_checkpoint_at_every_step(monkeypatch):
    """Let the loops be heard after every step, and torch lay out a few at a time."""
    monkeypatch.setattr(compiled, "_AT_ONCE_S", 1e-9)
    monkeypatch.setattr(stepwise, "_STEPS_AT_ONCE", 3)


# The same bits

SETTINGS = {
    **{name: {**params, "lr": 0.05} for name, params in OPTIMIZERS.items()},
    **{
        f"schedule {name}": {"lr_schedule": name, "alpha": 50}
        for name in ("invscaling", "optimal", "adaptive", "cosine", "one_cycle", "step")
    },
    "a user's schedule, clipped": {
        "lr_schedule": lambda t: 0.1 / t,
        "max_grad_norm": 0.3,
    },
    "warm-up": {"warmup_steps": 13},
    "early stopping": {"early_stopping": True, "tol": 0.1, "n_iter_no_change": 2},
    "early stopping by the loss": {"early_stopping": True, "scoring": "loss"},
    "it adapts": {"lr_schedule": "adaptive", "tol": 5.0, "n_iter_no_change": 1},
    "averaging": {"average": True},
    "averaging from a step on": {"average": 7, "early_stopping": True},
    "dropout": {"dropout": 0.3, "hidden_layer_sizes": (5, 3)},
    "an L1 penalty": {"l1_ratio": 0.4, "alpha": 0.1, "optimizer": "sgd"},
    "filled batches": {"last_batch": "fill"},
    "in order": {"shuffle": False, "fit_intercept": False},
    "whole batches": {"batch_size": None},
    "losses of batches": {"record_batch_loss": True},
}
needs_numba = pytest.mark.skipif(bool(why_no_numba()), reason="no numba here")
every_engine = pytest.mark.parametrize(
    "engine", ["torch", pytest.param("numba", marks=needs_numba)]
)

# What is carried from step to step, and laid out before, is the loops' own affair.
BY_LOOPS = ("momentum", "adam", "schedule cosine", "averaging from a step on")
BY_LOOPS += ("an L1 penalty", "it adapts", "whole batches", "losses of batches")
BOTH = [pytest.param(one, "torch", id=name) for name, one in SETTINGS.items()]
for name in BY_LOOPS:
    of_loops = {"id": f"{name}, by loops", "marks": needs_numba}
    BOTH.append(pytest.param(SETTINGS[name], "numba", **of_loops))
every_setting = pytest.mark.parametrize(("params", "engine"), BOTH)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@every_setting
def test_a_fit_goes_on_to_the_same_bits(path, monkeypatch, params, engine):
    """All fitted attributes are those of a fit that was never cut short.

    It was cut three times: in an epoch, in a later one by whoever went on, and as soon
    as the next one had begun.
    """
    model = small(MiniBatchRegressor, engine=engine, max_iter=4, **params)
    never_cut = clone(model).fit(X, y)
    first, more = (2, 2) if "batch_size" in params else (5, 11)
    at = cut_short(monkeypatch, clone(model), X, y, after=first, path=path)
    then = cut_short(monkeypatch, clone(model), X, y, after=more, path=path)
    again = cut_short(monkeypatch, clone(model), X, y, after=1, path=path)
    assert 0 < at < then == again
    assert of(clone(model).fit(X, y, checkpoint=path)) == of(never_cut)


S = sparse.random(60, 12, density=0.2, format="csr", rng=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@every_engine
@pytest.mark.parametrize(
    ("rows", "params"),
    [
        ("narrow", {"optimizer": "sgd", "alpha": 0.1, "l1_ratio": 0.5}),
        ("wide", {"optimizer": "sgd", "alpha": 0.1, "lr_schedule": "step"}),
        ("wide", {"optimizer": "sgd", "alpha": 0.1, "l1_ratio": 0.5}),
        ("wide", {"optimizer": "sgd", "alpha": 0.1, "l1_ratio": 0.5, "average": 3}),
        ("wide", {"optimizer": "adam", "early_stopping": True}),
        ("float32", {"hidden_layer_sizes": (3,)}),
        ("blocks", {"dropout": 0.3, "hidden_layer_sizes": (3,), "engine": "torch"}),
        ("blocks", {"early_stopping": True, "last_batch": "fill"}),
        ("weighted blocks", {"average": True, "shuffle": False}),
    ],
    ids=str,
)
def test_rows_of_any_kind_are_gone_on_with(path, monkeypatch, rows, params, engine):
    """Sparse ones whose weights owe something, and those that are read in windows."""
    monkeypatch.setattr(skgd._training.csr, "NARROW", 5 if rows == "wide" else 10**6)

    def block(n):
        some = slice(9 * n, 9 * n + 9)
        return (X[some], y[some], WEIGHT[some])[: 3 if "weighted" in rows else 2]

    given = S, y
    if rows == "float32":
        given = X.astype(np.float32), y
    if "blocks" in rows:
        reads = [lambda n=n: block(n) for n in range(7)]
        given = (Blocks.from_iterables(reads, chunk_rows=17),)
    model = small(MiniBatchRegressor, max_iter=3, **{"engine": engine, **params})
    never_cut = clone(model).fit(*given)
    for after in (3, 11):
        cut_short(monkeypatch, clone(model), *given, after=after, path=path)
        assert of(clone(model).fit(*given, checkpoint=path)) == of(never_cut)
        path.unlink()


OTHERS = {
    "classes": (MiniBatchClassifier, labels, {}, {}),
    "several targets": (MiniBatchRegressor, Y, {"early_stopping": True}, {}),
    "weights, held-out rows": (
        *(MiniBatchClassifier, labels, {"hidden_layer_sizes": (3,)}),
        {"sample_weight": WEIGHT, "X_val": X[:9], "y_val": labels[:9]},
    ),
    "starting weights": (MiniBatchRegressor, y, {}, {"coef_init": np.arange(4.0)}),
    "a warm start": (MiniBatchRegressor, y, {"lr_schedule": "cosine"}, {}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("cls", "y", "params", "more"), OTHERS.values(), ids=OTHERS)
def test_whatever_fit_is_given_it_goes_on_with(path, monkeypatch, cls, y, params, more):
    """Labels, targets, weights, other rows to judge by, a model that was trained."""
    is_warm = "lr_schedule" in params
    models = [small(cls, max_iter=3, warm_start=is_warm, **params) for _ in range(3)]
    if is_warm:
        for model in models:
            model.fit(X, y)
    cut_short(monkeypatch, models[0], X, y, after=12, path=path, **more)
    assert of(models[1].fit(X, y, checkpoint=path, **more)) == of(
        models[2].fit(X, y, **more)
    )


def test_what_was_drawn_from_entropy_is_gone_on_with(path, monkeypatch):
    """Without a random_state too: which rows are held out, the order of the others."""
    seeds = iter([1, 2, 1])
    monkeypatch.setattr(
        "skgd._estimators.folds.new_generator",
        lambda random_state: np.random.default_rng(next(seeds)),
    )
    params = {"random_state": None, "early_stopping": True, "max_iter": 3}
    model = small(MiniBatchRegressor, **params)
    cut_short(monkeypatch, clone(model), X, y, after=9, path=path)
    went_on = clone(model).fit(X, y, checkpoint=path)
    assert of(went_on) == of(clone(model).fit(X, y))


def test_a_random_state_that_has_moved_on_is_no_other(path, monkeypatch):
    """It is drawn from once more, as by every fit, and counts for nothing."""
    stream = np.random.RandomState(0)
    model = small(MiniBatchRegressor, random_state=stream, max_iter=2)
    cut_short(monkeypatch, model, X, y, after=9, path=path)
    model.random_state.randint(10)
    model.fit(X, y, checkpoint=path)
    model.random_state = np.random.RandomState(0)
    never_cut = small(MiniBatchRegressor, random_state=model.random_state, max_iter=2)
    assert never_cut.fit(X, y).coef_.tobytes() == model.coef_.tobytes()


# What ends a fit from outside


class Ends:
    """A callback that presses Ctrl-C, or stops the fit, after so many batches."""

    wants_batches = True

    def __init__(self, after, press=None):
        self.after, self.press, self.seen = after, press, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "batch":
            return False
        self.seen.append(estimator.t_)
        if len(self.seen) != self.after:
            return False
        if self.press is None:
            return True
        signal.raise_signal(self.press)
        return False


@pytest.mark.parametrize("after", [STEPS - 1, STEPS, STEPS + 3])
def test_ctrl_c_keeps_the_step_that_it_ends_at(path, after):
    """The model is that of this step; the file goes on from it, to the same bits."""
    model = small(MiniBatchRegressor, max_iter=3, early_stopping=True, engine="torch")
    never_cut = clone(model).fit(X, y)
    interrupted = clone(model).set_callbacks(Ends(after, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=f"{after} steps"):
        interrupted.fit(X, y, checkpoint=path)
    assert interrupted.t_ == after
    looks = Ends(0)
    went_on = clone(model).set_callbacks(looks).fit(X, y, checkpoint=path)
    assert looks.seen == list(range(after + 1, never_cut.t_ + 1))
    assert of(went_on) == of(never_cut)


def test_a_fit_whose_time_is_over_goes_on_with_the_next(path, monkeypatch):
    """max_time is that of each call; together they take the steps of one fit."""
    model = small(MiniBatchRegressor, max_iter=3)
    never_cut, ticks = clone(model).fit(X, y), count()
    monkeypatch.setattr("skgd._estimators.watch.monotonic", lambda: float(next(ticks)))
    n_calls, last = 0, -1
    while last < never_cut.t_:
        went_on = clone(model).set_params(max_time=6.5).fit(X, y, checkpoint=path)
        assert went_on.t_ > last
        last, n_calls = went_on.t_, n_calls + 1
    assert n_calls == 4
    assert of(went_on.set_params(max_time=None)) == of(never_cut)


def test_a_callback_ends_a_fit_for_good(path):
    """What it has stopped has ended: the same call returns that model."""
    stopped = small(MiniBatchRegressor, engine="torch").set_callbacks(Ends(STEPS + 3))
    stopped.fit(X, y, checkpoint=path)
    again = small(MiniBatchRegressor, engine="torch").fit(X, y, checkpoint=path)
    assert of(again) == of(stopped)


def test_sigterm_keeps_the_step_before_it_takes_its_course(path):
    """A handler of the caller's is called at a whole step, once it is kept."""
    kept = []

    def handle(number, frame):
        point = decode(path.read_bytes())["progress"]["point"]
        kept.append(len(point["losses"]))

    model = small(MiniBatchRegressor, max_iter=2, engine="torch")
    never_cut = clone(model).fit(X, y)
    before = signal.signal(signal.SIGTERM, handle)
    try:
        model.set_callbacks(Ends(5, signal.SIGTERM)).fit(X, y, checkpoint=path)
        assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept == [5]
    assert of(model) == of(never_cut)


class Slow(Ends):
    """A callback that takes some time, so that the fit does."""

    wants_batches = False

    def on_fit_task_end(self, estimator, context):
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_process_that_is_killed_is_gone_on_from(path):
    """By SIGTERM, and then by SIGKILL; the third one ends as if it were alone."""
    model = small(MiniBatchRegressor, max_iter=100, tol=None, engine="torch")
    model.set_callbacks(Slow(0))
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = path.stat().st_ino if path.exists() else None
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                model.fit(X, y, checkpoint=path, checkpoint_seconds=0)
            finally:
                os._exit(1)
        while not path.exists() or path.stat().st_ino == before:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(child, number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert 0 < decode(path.read_bytes())["progress"]["t"] < 100 * STEPS
    went_on = model.set_callbacks().fit(X, y, checkpoint=path)
    assert of(went_on) == of(clone(model).fit(X, y))


# The file


def end(model, path):
    """Return a model when it is fitted, or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            ended = of(model.fit(X, y, checkpoint=path)), model.time_curve_
        except ValueError as error:
            ended = str(error)
    return ended, [str(one.message) for one in told]


@pytest.mark.parametrize(
    "params",
    [
        {"max_iter": 2, "tol": 1e-9},
        {"tol": 0.5, "n_iter_no_change": 1},
        {"early_stopping": True, "tol": 0.1, "n_iter_no_change": 1, "average": True},
        {"optimizer": "sgd", "lr": 1e4},
    ],
    ids=["max_iter", "settled", "early", "diverged"],
)
def test_a_fit_that_has_ended_is_returned_at_once(path, monkeypatch, params):
    """No step is taken, and nothing is written; what was told is told again."""
    model = small(MiniBatchRegressor, **params)
    ended = end(clone(model), path)
    monkeypatch.setattr(checkpoints, "write_atomically", None)
    for engine in (compiled, stepwise):
        monkeypatch.setattr(engine, "Taken", None)
    assert end(clone(model), path) == ended


def test_it_is_written_by_the_clock(path, monkeypatch):
    """At the start, after so many seconds, and at the end; whatever it is called by."""
    now, written = [0.0], []
    write = checkpoints.write_atomically

    def clock():
        now[0] += 1  # with each step
        return now[0]

    def noted(path, data):
        written.append(now[0])
        write(path, data)

    monkeypatch.setattr(checkpoints, "monotonic", clock)
    monkeypatch.setattr(checkpoints, "write_atomically", noted)
    pipeline = make_pipeline(StandardScaler(), small(MiniBatchRegressor, max_iter=3))
    name = "minibatchregressor__checkpoint"
    pipeline.fit(X, y, **{name: path, f"{name}_seconds": 10})
    waits = np.diff(written)
    assert len(written) == 4
    assert (waits[:-1] >= 10).all()
    assert (waits <= 12).all()


def test_a_full_disk_ends_no_training(path, monkeypatch):
    """That it is not written any more is a warning; the old one stays."""
    write, written = checkpoints.write_atomically, []

    def full(path, data):
        if len(written) == 2:
            raise OSError("No space left on device.")
        written.append(data)
        write(path, data)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    model = small(MiniBatchRegressor, max_iter=2)
    with pytest.warns(UserWarning, match="cannot be written: No space left"):
        trained = clone(model).fit(X, y, checkpoint=path, checkpoint_seconds=0)
    assert of(trained) == of(clone(model).fit(X, y))
    assert path.read_bytes() == written[-1]


def begun(path, monkeypatch, **params):
    """Return a model whose fit was begun, and what its checkpoint holds."""
    model = small(MiniBatchRegressor, max_iter=2, **params)
    cut_short(monkeypatch, clone(model), X, y, after=3, path=path)
    return model, path.read_bytes()


OTHER_FITS = {
    "lr must be": ({"lr": 0.5}, {}),
    "lr_schedule must be": ({"lr_schedule": lambda t: 0.1}, {}),
    "hidden_layer_sizes must be": ({"hidden_layer_sizes": (3,)}, {}),
    "random_state must be": ({"random_state": 1}, {}),
    "X must be .*shape .60, 4., .*shape .59, 4.": ({}, {"X": X[1:], "y": y[1:]}),
    "X must be": ({}, {"X": X[::-1]}),
    "y must be": ({}, {"y": np.nextafter(y, 9)}),
    "sample_weight must be .*none": ({}, {"sample_weight": WEIGHT}),
    "X_val must be": ({}, {"X_val": X, "y_val": y}),
    "coef_init must be": ({}, {"coef_init": np.ones(4)}),
}


@pytest.mark.parametrize(("params", "given"), OTHER_FITS.values(), ids=OTHER_FITS)
def test_another_fit_is_told_what_differs(path, monkeypatch, request, params, given):
    """It is refused, and neither the file nor the model changes."""
    model, held = begun(path, monkeypatch)
    model.set_params(**params)
    [(match, _)] = [one for one in OTHER_FITS.items() if one[1] == (params, given)]
    with pytest.raises(ValueError, match=f"run.skgd'*: {match}"):
        model.fit(**{"X": X, "y": y, **given}, checkpoint=path)
    assert path.read_bytes() == held
    assert not hasattr(model, "t_")


def test_a_fit_that_another_version_has_kept_says_so(path, monkeypatch):
    """Where what training remembers was not the same: here, of a rate that adapts."""
    model, data = begun(path, monkeypatch)
    tree = decode(data)
    del tree["progress"]["history"]["memory"]["gained"]
    for by, said in (("0.1.9", "by version 0.1.9 of skgd"), (1, "no fit has kept")):
        path.write_bytes(encode({**tree, "versions": {"skgd": by}}))
        with pytest.raises(ValueError, match=said):
            model.fit(X, y, checkpoint=path)


def test_a_tol_of_numpys_is_kept_as_any(path):
    """As a search over np.logspace sets it: what it is compared to is read again."""
    model = small(MiniBatchRegressor, lr_schedule="adaptive", tol=np.float64(0.1))
    model.set_params(max_iter=200).fit(X, y, checkpoint=path)
    assert of(clone(model).fit(X, y, checkpoint=path)) == of(model)


def test_a_cross_validation_is_told_that_a_file_is_for_one_fit(path):
    """Its second fit finds the file of the first one, of other rows."""
    options = {"params": {"checkpoint": path}, "cv": 2, "error_score": "raise"}
    with pytest.raises(ValueError, match="file is for one fit, not for the many of a"):
        cross_validate(small(MiniBatchRegressor), X, y, **options)


def test_what_changes_no_step_may_differ(path, monkeypatch, capsys):
    """More time, and what is printed: where it goes on, or that it has ended."""
    model, _ = begun(path, monkeypatch)
    model.set_params(max_time=1e9, verbose=True).fit(X, y, checkpoint=path)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "Training goes on from the checkpoint, after step 2 of epoch 1"
    assert second.startswith("Epoch 1 of 2")
    model.fit(X, y, checkpoint=path)
    ends = "The checkpoint holds a training that has ended, in epoch 2\n"
    assert capsys.readouterr().out == ends


def test_a_fit_of_another_class_or_engine_is_refused(path, monkeypatch):
    """A class has other parameters, and an engine rounds otherwise."""
    _, held = begun(path, monkeypatch, engine="torch")
    with pytest.raises(ValueError, match="a fit of MiniBatchClassifier"):
        small(MiniBatchClassifier).fit(X, labels, checkpoint=path)
    forged = decode(held)
    forged["progress"]["engine"] = "numba"
    path.write_bytes(encode(forged))
    with pytest.raises(ValueError, match="engine must be 'numba'"):
        small(MiniBatchRegressor, max_iter=2, engine="torch").fit(X, y, checkpoint=path)


def test_an_ensemble_is_refused(path):
    """A checkpoint keeps one model."""
    model = small(MiniBatchRegressor, n_models=3)
    with pytest.raises(ValueError, match=r"n_models must be 1 with checkpoint.*Got 3"):
        model.fit(X, y, checkpoint=path)
    assert not path.exists()


def test_a_warm_start_goes_on_with_the_same_model(path, monkeypatch):
    """From another one it would be another fit."""
    model = small(MiniBatchRegressor, max_iter=2, warm_start=True).fit(X, y)
    other = clone(model).fit(X, -y)
    cut_short(monkeypatch, model, X, y, after=3, path=path)
    with pytest.raises(ValueError, match="The model that training goes on from must"):
        other.fit(X, y, checkpoint=path)


def test_a_model_file_is_no_checkpoint_nor_the_other_way_round(path, monkeypatch):
    """Each is told what it is, and where it is read."""
    model, _ = begun(path, monkeypatch)
    with pytest.raises(ValueError, match="a fit under way, and no model; go on by fit"):
        MiniBatchRegressor.load(path)
    model.fit(X, y).save(path)
    with pytest.raises(ValueError, match="a model that save has written, and no fit"):
        model.fit(X, y, checkpoint=path)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda data: b"", "does not begin as a file of skgd"),
        (lambda data: data[:-40], "damaged"),
        (lambda data: data[:300] + b"?" + data[301:], "checksum"),
    ],
    ids=["empty", "cut off", "a byte"],
)
def test_a_damaged_file_is_refused(path, monkeypatch, damage, match):
    """It is left as it is: who damaged it may know what to do."""
    model, held = begun(path, monkeypatch)
    path.write_bytes(damage(held))
    with pytest.raises(ValueError, match=f"run.skgd'*: .*{match}.* to begin anew"):
        model.fit(X, y, checkpoint=path)
    assert path.read_bytes() == damage(held)


def test_a_tree_that_no_fit_has_kept_is_refused(path, monkeypatch):
    """With any part missing, or of another kind: an error of ours comes out of none."""
    model, held = begun(path, monkeypatch, early_stopping=True)
    tree = decode(held)

    def places(value, at=()):
        if isinstance(value, dict):
            for name, one in value.items():
                yield (*at, name)
                yield from places(one, (*at, name))

    passed = []
    for at in places(tree):
        if at[0] == "versions" or at[:2] == ("fit", "parameters"):
            continue  # for whoever looks into it; and with defaults
        for other in ({"a": 1}, ...):
            forged = decode(held)
            inner = forged
            for name in at[:-1]:
                inner = inner[name]
            if other is ...:
                del inner[at[-1]]
                if at[:2] == ("fit", "given"):
                    continue  # what is not noted was not given
            elif type(inner[at[-1]]) is type(other):
                continue
            else:
                inner[at[-1]] = other
            path.write_bytes(encode(forged))
            try:
                clone(model).fit(X, y, checkpoint=path)
                passed.append((at, other))
            except ValueError:
                pass
    assert passed == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO here")
def test_paths_that_name_no_file_are_told_before_any_work(tmp_path, monkeypatch):
    """A directory, a FIFO, a missing directory, a number; nothing waits or trains."""
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(checkpoints, "fingerprint", None)
    model = small(MiniBatchRegressor)
    for path, kind, match in (
        (tmp_path, IsADirectoryError, "Got a directory"),
        (tmp_path / "fifo", OSError, "Got a FIFO"),
        (tmp_path / "none" / "run", FileNotFoundError, "must exist. Got none; make"),
        (tmp_path / "fifo" / "run", FileNotFoundError, "must exist. Got none; make"),
        (3, TypeError, "checkpoint must be None, or the path of a file"),
        ("", TypeError, "checkpoint must be None, or the path of a file"),
    ):
        with pytest.raises(kind, match=match):
            model.fit(X, y, checkpoint=path)
    for seconds in (-1, np.nan, np.inf, "60", None):
        with pytest.raises(ValueError, match="checkpoint_seconds must be a float"):
            model.fit(X, y, checkpoint=tmp_path / "run", checkpoint_seconds=seconds)
    assert os.listdir(tmp_path) == ["fifo"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no other user to be")
def test_a_directory_that_may_not_be_written_to_is_told(tmp_path):
    """Before any work, too."""
    tmp_path.chmod(0o555)
    if not os.geteuid():
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match="may not be opened or written"):
            small(MiniBatchRegressor).fit(X, y, checkpoint=tmp_path / "run")
    finally:
        if not os.getuid():
            os.seteuid(0)
        tmp_path.chmod(0o755)


def test_what_a_killed_write_leaves_beside_it_is_nothing_to_a_fit(path, monkeypatch):
    """The file is the one before."""
    model, held = begun(path, monkeypatch)
    half = path.parent / ".skgd-0123456789abcdef.tmp"
    half.write_bytes(held[: len(held) // 2])
    assert of(clone(model).fit(X, y, checkpoint=path)) == of(clone(model).fit(X, y))
    assert half.read_bytes() == held[: len(held) // 2]
