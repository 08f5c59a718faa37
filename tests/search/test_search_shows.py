"""What a search shows while it runs: words, bars, and the tasks of callbacks."""

import re
import warnings
from collections import Counter
from itertools import chain, count

import numpy as np
import pytest
from conftest import WEIGHT, X, small
from search_cases import (
    REGRESSOR,
    SPACE,
    assert_same_results,
    assert_trained,
    both,
    every_search,
    search_of,
    y,
)
from sklearn.callback import ProgressBar
from sklearn.pipeline import make_pipeline

from skgd import MiniBatchRegressor, WeightTrajectory


def test_silence_is_the_default(capsys):
    """verbose=0 prints nothing."""
    search_of(REGRESSOR).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_verbose_tells_how_far_it_is(capsys):
    """1 tells the number of fits, 2 the models that are done, 3 every stack."""
    space = {**SPACE, "batch_size": [8, 10]}
    first = "Fitting 2 folds for each of 8 candidates, totalling 16 fits"
    models = ["8 of 16 models trained", "16 of 16 models trained"]
    stack = "Stack of 8 models, epoch 3 of 3, done, # s"
    told = []
    for verbose in (1, 2, 3):
        search_of(REGRESSOR, space, verbose=verbose).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        told.append([re.sub(r"\d+[.]\d s", "# s", line) for line in lines])
    assert told[0] == [first]
    assert told[1] == [first, *models]
    assert told[2] == [first, stack, models[0], stack, models[1]]


@pytest.mark.parametrize("watched", [False, True])
def test_verbose_tells_every_few_seconds_how_many_are_in_training(
    watched, capsys, monkeypatch
):
    """A line comes after so many seconds, not an epoch; models stop meanwhile."""
    ticks = count()
    monkeypatch.setattr(
        "skgd._search.progress.perf_counter", lambda: float(next(ticks))
    )
    model = small(MiniBatchRegressor, tol=1e-1, n_iter_no_change=10, max_iter=90)
    model.set_params(lr_schedule="constant")
    search = search_of(model, {"lr": [0.02, 0.5]}, verbose=3, refit=False)
    if watched:
        search.set_callbacks(Recorder())
    search.fit(X, y)
    told = re.findall(
        r"Stack of 4 models, epoch (\d+) of 90, (\d) of them in training, \d+[.]0 s",
        capsys.readouterr().out,
    )
    epochs, going = zip(*[map(int, pair) for pair in told], strict=True)
    n_epochs = max(map(len, chain.from_iterable(search.loss_curves_)))
    assert 1 < len(epochs) <= n_epochs / 3
    assert going[-1] < 4
    assert sorted(going, reverse=True) == list(going)


def test_an_estimator_that_tells_its_epochs_is_silent_in_a_stack(capsys):
    """The search tells of it instead; the refit is a fit like any other."""
    model = small(MiniBatchRegressor, verbose=True)
    search_of(model, {"lr": [0.1]}).fit(X, y)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("path", ["", "minibatchregressor__"])
def test_many_groups_are_told_beforehand(path, capsys):
    """The sentence names what makes them; a few groups are not worth one."""
    model = make_pipeline(REGRESSOR) if path else REGRESSOR
    for sizes, expected in ([8, 9, 10, 11, 12], True), ([8, 9, 10, 11], False):
        space = {f"{path}batch_size": sizes, f"{path}lr": [0.1]}
        search_of(model, space, verbose=1, refit=False).fit(X, y)
        assert (
            f"The 5 candidates make 5 groups, each trained in turn, for they differ in "
            f"{path}batch_size: a few values" in capsys.readouterr().out
        ) is expected
    space = {f"{path}batch_size": [8, 9, 10, 11, 12], f"{path}lr": [0.1, 0.2]}
    search_of(model, space, verbose=1, refit=False).fit(X, y)
    assert "groups" not in capsys.readouterr().out


@pytest.mark.parametrize("return_train_score", [True, False])
def test_verbose_tells_scores_of_single_fits(return_train_score, capsys):
    """Fits made one at a time are told as by GridSearchCV."""
    settings = {"verbose": 3, "return_train_score": return_train_score}
    model = small(MiniBatchRegressor, max_time=1e9)
    search, other = both("grid", model, SPACE, **settings)
    search.fit(X, y)
    ours = capsys.readouterr().out
    other.fit(X, y)
    theirs = capsys.readouterr().out
    without_times = [re.sub(r"(total time=).*", "", text) for text in (ours, theirs)]
    assert without_times[0] == without_times[1]
    assert ours.count("score=") == 8


def test_halving_tells_its_rounds(capsys):
    """The lines of HalvingGridSearchCV are there."""
    search, other = both("halving grid", REGRESSOR, SPACE, verbose=1)
    search.fit(X, y)
    ours = capsys.readouterr().out
    other.fit(X, y)
    assert ours == capsys.readouterr().out


def test_a_progress_bar_shows_models_and_epochs(capsys, wide_console):
    """A bar for each stack goes through its epochs, and all end at 100 %."""
    search = search_of(REGRESSOR, {**SPACE, "batch_size": [8, 10]})
    search.set_callbacks(ProgressBar()).fit(X, y)
    told = capsys.readouterr().out
    assert told.count("VectorizedGridSearchCV - 8 models #") == 2
    assert told.count("VectorizedGridSearchCV - epochs of 8 models #0") == 2
    assert "VectorizedGridSearchCV - search" in told
    assert "refit-with-best-params | MiniBatchRegressor - fit" in told
    lines = [line for line in told.splitlines() if " - " in line]
    assert all("100%" in line for line in lines), told
    assert not hasattr(search.best_estimator_, "_skl_callbacks")


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_progress_bar_of_the_estimator_is_the_searchs(in_pipeline, capsys):
    """It shows what one set on the search does, and stays where it was set."""
    bar, plain = ProgressBar(), small(MiniBatchRegressor)
    watched = small(MiniBatchRegressor).set_callbacks(bar)
    path, of_two = "", [plain, watched]
    if in_pipeline:
        path, of_two = "minibatchregressor__", [make_pipeline(one) for one in of_two]
    space = {f"{path}lr": [0.01, 0.1]}
    expected, search = (search_of(one, space) for one in of_two)
    expected.set_callbacks(ProgressBar()).fit(X, y)
    told = re.sub(r"[\d:]+", "", capsys.readouterr().out)
    search.fit(X, y)
    assert re.sub(r"[\d:]+", "", capsys.readouterr().out) == told
    assert "VectorizedGridSearchCV - search" in told
    assert_trained(search, together=True)
    assert_same_results(search, expected, rtol=0)
    assert watched._skl_callbacks == [bar]
    assert not hasattr(search, "_skl_callbacks")
    search.fit(X, y)


def test_a_progress_bar_and_a_recorder_of_the_estimator_both_work(capsys):
    """The one watches the search, the other every fit."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(ProgressBar(), recorder)
    search = search_of(model, {"lr": [0.01, 0.1]}).set_callbacks(ProgressBar())
    search.fit(X, y)
    assert len(recorder.trajectories_) == 2 * 2 + 1
    assert "refit-with-best-params" in capsys.readouterr().out
    assert search.best_estimator_._skl_callbacks == [recorder]
    assert len(search._skl_callbacks) == 1


class Recorder:
    """Notes every call of a callback's hooks."""

    def __init__(self):
        self.calls, self.metadata = [], []

    def note(self, hook, estimator, context):
        self.calls.append((hook, type(estimator), context.task_name))

    def setup(self, estimator, context):
        self.note("setup", estimator, context)

    def on_fit_task_begin(self, estimator, context, *, metadata=None):
        self.note("begin", estimator, context)
        self.metadata.append((context.task_name, metadata))

    def on_fit_task_end(self, estimator, context):
        self.note("end", estimator, context)

    def teardown(self, estimator, context):
        self.note("teardown", estimator, context)


@every_search
def test_callbacks_change_nothing(kind):
    """A search that is looked on at finds the same, and keeps nothing of it."""
    plain, watched = both(kind, REGRESSOR, SPACE)[0], both(kind, REGRESSOR, SPACE)[0]
    recorder = Recorder()
    watched.set_callbacks(recorder).fit(X, y)
    assert_same_results(watched, plain.fit(X, y), rtol=0)
    assert set(vars(watched)) - set(vars(plain)) == {"_skl_callbacks"}


@pytest.mark.parametrize(
    "space",
    [SPACE, {"max_time": [None, 1e9]}, {"lr": [0.1, -1.0]}],
    ids=["together", "mixed", "refused"],
)
@every_search
def test_tasks_of_a_search_begin_and_end(kind, space):
    """Callbacks see the search as their estimator; every task that begins ends."""
    recorder = Recorder()
    search = both(kind, REGRESSOR, space)[0].set_callbacks(recorder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*(fits failed|non-finite|total space)")
        search.fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    ended = Counter(call[2] for call in recorder.calls if call[0] == "end")
    assert begun == ended
    assert begun["fit"] >= 1
    assert begun["refit-with-best-params"] == 1
    assert {call[1] for call in recorder.calls} == {type(search)}
    hooks = [call[0] for call in recorder.calls]
    assert (hooks[0], hooks[-1]) == ("setup", "teardown")
    assert hooks.count("setup") == hooks.count("teardown") == 1


def test_tasks_are_stacks_and_their_epochs():
    """A stack of models is a task, and every epoch of it one below."""
    recorder = Recorder()
    search = search_of(REGRESSOR).set_callbacks(recorder).fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    assert begun["epoch"] == 3
    assert begun["8 models"] == begun["epochs of 8 models"] == 1
    recorder.calls.clear()
    search.set_params(max_bytes=1).fit(X, y)
    begun = Counter(call[2] for call in recorder.calls if call[0] == "begin")
    assert begun["epoch"] == 3 * 8
    assert begun["epochs of 1 models"] == 8


def test_callbacks_are_told_of_weights():
    """The metadata of the fit and of the refit hold sample_weight."""
    recorder = Recorder()
    search = search_of(REGRESSOR).set_callbacks(recorder)
    search.fit(X, y, sample_weight=WEIGHT)
    told = dict(recorder.metadata)
    for name in ("fit", "refit-with-best-params"):
        assert told[name]["sample_weight"] is WEIGHT


def test_callbacks_of_the_estimator_see_every_fit():
    """WeightTrajectory has one path a fit, in the order of the candidates."""
    recorder = WeightTrajectory()
    model = small(MiniBatchRegressor).set_callbacks(recorder)
    search = search_of(model, {"lr": [0.01, 0.1]}).fit(X, y)
    assert len(recorder.trajectories_) == 2 * 2 + 1
    last = recorder.trajectories_[-1].weights[-1]
    assert np.array_equal(last[:-1], search.best_estimator_.coef_)
    assert_trained(search, together=False)


class _Noting:
    """Notes the tasks that began and have not ended."""

    def __init__(self):
        self.open = Counter()

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.open[context.task_name] += 1

    def on_fit_task_end(self, estimator, context):
        self.open[context.task_name] -= 1
        return False

    def teardown(self, estimator, context):
        pass


def test_all_tasks_end_where_nothing_is_left_to_train():
    """An iteration of halving may repeat one of as many epochs."""
    noting = _Noting()
    search, _ = both("halving grid", REGRESSOR, {"lr": [0.1, 0.03, 0.01, 0.003]})
    search.set_params(aggressive_elimination=True, min_resources=4)
    search.set_callbacks(noting).fit(X, y)
    assert not +noting.open
    assert noting.open["epoch"] == 0
