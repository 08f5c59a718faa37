"""One model on the rows of several processes is that of one process; they end alike.

What three processes do is in ``parallel_cases``, which torchrun starts once; two of
them are the cases of two processes, and this one is that of one.
"""

import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from parallel_cases import (
    CASES,
    LENGTHS,
    LENGTHS_VAL,
    OF_BLOCKS,
    PIECES,
    PLACEMENTS,
    arrays,
    chunks_of,
    fit,
    fit_blocks,
    fit_partitions,
    more_than,
    numbers_of,
    rows_of,
)
from sklearn.base import clone

from skgd import (
    MiniBatchClassifier,
    MiniBatchRegressor,
    VectorizedGridSearchCV,
    WeightTrajectory,
    data_parallel,
)
from skgd._estimators import folds
from skgd._training import epochs

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

X, Y = np.random.default_rng(1).normal(size=(2, 60, 3))
Y = Y[:, 0]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return what each of three processes has written down.

    By torch's default a rank waits for half an hour for one that does not answer: that
    all ends earlier shows that none does.
    """
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("parallel_cases.py")
    ranks = ["--nproc-per-node", "3", "--rdzv-backend", "c10d"]
    command = [sys.executable, "-m", "torch.distributed.run", *ranks]
    command += ["--rdzv-endpoint", "localhost:0", script, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    paths = [folder / f"rank{rank}.pkl" for rank in range(3)]
    return [pickle.loads(path.read_bytes()) for path in paths]


@pytest.fixture
def one_rank():
    """Let this process be a group of its own."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def places_of(lengths):
    """Return partition and number of every row, in the order of their places."""
    pairs = [(p, j) for p, n in enumerate(lengths) for j in range(n)]
    return sorted(pairs, key=lambda pair: ((pair[1] + 0.5) / lengths[pair[0]], pair[0]))


def rows_in_order(lengths):
    """Return what draws the rows of an epoch, all in one process, by the rule."""
    starts, places = np.cumsum([0, *lengths]), places_of(lengths)

    def draw(generator, n_samples, n_rows, *, shuffle):
        assert n_samples == sum(lengths)
        key = int(generator.integers(2**63))
        streams = [np.random.default_rng([key, p]) for p in range(len(lengths))]
        orders = [
            stream.permutation(n) if shuffle else np.arange(n)
            for stream, n in zip(streams, lengths, strict=True)
        ]
        first, more = places[:n_rows], places[: max(0, n_rows - n_samples)]
        rows = [starts[p] + orders[p][j] for p, j in first]
        of_each = np.bincount([p for p, _ in more], minlength=len(lengths))
        for p, (stream, n) in enumerate(zip(streams, lengths, strict=True)):
            if of_each[p]:
                rows += (starts[p] + stream.integers(n, size=of_each[p])).tolist()
        return np.array(rows)

    return draw


def held_out_by_hand(settings, examples, targets, seed):
    """Return which rows are held out, a class at a time, by the rule."""
    n = len(examples.labels)
    kinds = examples.targets[0].astype(int)
    n_held = int(np.ceil(settings.validation_fraction * n))
    quotas = np.bincount([kind for kind, _ in places_of(np.bincount(kinds))[:n_held]])
    starts, held_out = np.cumsum([0, *LENGTHS]), []
    permuted = [
        starts[p] + np.random.default_rng([seed, p]).permutation(length)
        for p, length in enumerate(LENGTHS)
    ]
    for kind, quota in enumerate(quotas):
        rows = [some[kinds[some] == kind] for some in permuted]
        places = places_of([len(some) for some in rows])
        held_out += [rows[p][j] for p, j in places[:quota]]
    rows = np.setdiff1d(np.arange(n), held_out)
    LEFT[:] = np.histogram(rows, starts)[0]
    return rows, np.sort(held_out)


LEFT = list(LENGTHS)  # rows that are trained on, of each partition


@cache
def oracle(name):
    """Return what a plain fit of one process comes to, which sees rows in order."""
    case, of = CASES[name], arrays()
    model, everywhere = case.estimator(), PLACEMENTS["one"][0]
    LEFT[:] = LENGTHS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "hold_out", held_out_by_hand)
        for select, lengths in chunks_of(case, everywhere):

            def draw(*given, lengths=lengths, **options):
                some = LEFT if name == "held out" else lengths
                return rows_in_order(some)(*given, **options)

            patch.setattr(epochs, "rows_of_epoch", draw)
            fit(case, model, of, select, rows_of(LENGTHS_VAL, everywhere))
    return numbers_of(model)


def assert_close(numbers, expected, tolerance):
    """Hold all numbers of a fit against those of another one."""
    assert numbers.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind in "iU":
            np.testing.assert_array_equal(numbers[name], values, err_msg=name)
        else:
            atol = tolerance * max(1.0, np.nanmax(np.abs(values)))
            np.testing.assert_allclose(numbers[name], values, 0, atol, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_one_rank_fits_as_one_process(one_rank, name):
    """A group of one gives the model of a plain fit that sees rows in its order."""
    with data_parallel():
        model = fit_partitions(CASES[name], arrays(), PLACEMENTS["one"][0])
    assert model.engine_ == "torch"
    assert_close(numbers_of(model), oracle(name), CASES[name].tolerance)


@pytest.mark.parametrize("placement", ["two", "three"])
@pytest.mark.parametrize("name", CASES)
def test_several_ranks_fit_as_one_process(told, name, placement):
    """The model is that one on two ranks and on three; on all of them, to the bit."""
    same = same_on_all(told, placement, name)
    assert_close(same, oracle(name), CASES[name].tolerance)


def test_some_ranks_may_fit_more_than_once(told):
    """Each time is a group of its own, and those of all ranks come after."""
    first, again = (same_on_all(told, "two", f"descent{n}") for n in ("", " again"))
    assert first["weights"].tobytes() == again["weights"].tobytes()


def same_on_all(told, *key):
    """Return what all ranks of a group have come to, alike to the bit."""
    first, *others = [rank[key] for rank in told if key in rank]
    assert len(others) == len(PLACEMENTS[key[0]]) - 1
    for other in others:
        for name, values in first.items():
            assert values.tobytes() == other[name].tobytes(), name
    return first


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_ranks_share_blocks_as_one_process_reads_them(told, one_rank, name):
    """Their order, batches and held-out blocks are those of a plain fit."""
    expected = numbers_of(fit_blocks(name, arrays()))
    with data_parallel():
        assert_close(numbers_of(fit_blocks(name, arrays())), expected, 1e-12)
    for placement in ("two", "three"):
        assert_close(same_on_all(told, placement, "blocks", name), expected, 1e-12)


def ends(told, name):
    """Return how the fits of all ranks have ended: in numbers, or in words."""
    return [rank[name] for rank in told]


@pytest.mark.parametrize(
    "name", ["clock", "callback stops", "random", "new classes", "kinds of text"]
)
def test_ranks_end_with_one_model(told, name):
    """A clock or a callback of one rank ends all after one step; rank 0 draws."""
    first, *others = ends(told, name)
    for other in others:
        assert first["weights"].tobytes() == other["weights"].tobytes()
        assert first["t"] == other["t"]


def test_a_callback_ends_the_fit_after_its_epoch(told):
    """The second one, of four steps each, of three ranks' rows."""
    assert ends(told, "callback stops")[0]["t"] == 10


def test_classes_are_those_of_all_ranks(told):
    """Each rank has one label only."""
    assert ends(told, "new classes")[0]["classes"].tolist() == [0, 1, 2]


REFUSED = {
    "callback fails": (2, "ArithmeticError: a callback has failed"),
    "not a number": (1, "Input X contains NaN"),
    "stream": (1, "Input X contains NaN"),
    "scorer fails": (0, "no score today"),
    "blocks": (1, "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_of_one_rank_is_raised_on_all(told, name):
    """In its words, and with the number of the rank on the others."""
    rank, words = REFUSED[name]
    for number, ended in enumerate(ends(told, name)):
        assert words.split(": ")[-1] in ended
        assert (f"On rank {rank} of 3: " in ended) is (number != rank)


UNLIKE = {
    "columns": "The number of features of X must be the same on all ranks. Got 6 on "
    "rank 0 and 5 on rank 2.",
    "precision": "The dtype of X must be the same on all ranks. Got 'float64' on rank "
    "0 and 'float32' on rank 1.",
    "parameters": "batch_size must be the same on all ranks. Got 32 on rank 0 and 33 "
    "on rank 1.",
    "weights on one": "Whether sample_weight is given must be the same on all ranks",
    "starts": "coef_init must be the same on all ranks",
    "outputs": "The columns of y must be the same on all ranks. Got (2,) on rank 0 and "
    "() on rank 1.",
    "kinds of labels": "The kind of y must be the same on all ranks",
    "names": "The names of the features of X must be the same on all ranks",
    "states": "The state that training goes on from must be the same on all ranks",
    "classes": "The number of classes must be the same on all ranks. Got 4 on rank 0 "
    "and 3 on rank 1.",
    "other blocks": "X.n_blocks must be the same on all ranks. Got 2 on rank 0 and 3",
    "diverges": "Training diverged in epoch",
    "one class": "must have at least two classes. Got one class only",
    "kept of others": "X of partition 2 must be what the fit was given that it holds",
    "kept by one": "Whether checkpoint is given must be the same on all ranks",
    "Ctrl-C": "Training was interrupted in epoch 2, after 10 steps",
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_concerns_all_ranks_is_said_on_all(told, name):
    """The same sentence, in the same epoch."""
    first, *others = ends(told, name)
    assert UNLIKE[name] in first
    assert set(others) == {first}


@pytest.mark.parametrize("case", PIECES)
def test_ranks_go_on_from_a_checkpoint(told, case):
    """At whole steps that the clock of one rank has ended all at, to the same bits."""
    for rank in told:
        whole, in_pieces, ts = rank["pieces", case]
        assert ts == told[0]["pieces", case][2]
        assert len(ts) > 5
        assert_close(in_pieces, whole, 0)
        assert in_pieces["weights"].tobytes() == whole["weights"].tobytes()


def test_held_out_rows_may_lie_on_some_ranks(told):
    """One that has none scores with the others."""
    scores = [end["validation_scores_"] for end in ends(told, "held out elsewhere")]
    assert scores[0].tolist() == scores[1].tolist() == scores[2].tolist()
    assert scores[0].max() > 0.5


def test_a_rank_that_is_lost_ends_the_others(told):
    """They say so, and in a new context all is well."""
    left, *others = sorted(ends(told, "lost"))[::-1]
    assert left == "SystemExit: left"
    for other in others:
        assert "A rank has ended, has left the fit with an error of its own" in other
    assert "enter data_parallel anew" in ends(told, "after that")[1]
    assert len({end["weights"].tobytes() for end in ends(told, "anew")}) == 1


def test_the_timeout_is_kept(told):
    """Those who wait for a rank that comes only after they have gone give it up."""
    for ended in ends(told, "timeout")[:2]:
        assert "did not answer within the timeout" in ended


def test_nothing_is_left(told):
    """As many threads and open files as before, of every process."""
    for rank in told:
        assert not more_than(*rank["left"])


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (MiniBatchRegressor(dropout=0.1, hidden_layer_sizes=(3,)), "dropout must be 0"),
        (MiniBatchRegressor(engine="numba"), "engine='numba' must have a process"),
        (
            MiniBatchRegressor().set_callbacks(WeightTrajectory("step")),
            "must look at epochs",
        ),
        (
            VectorizedGridSearchCV(MiniBatchRegressor(), {"lr": [0.1]}),
            "must be fitted in one process",
        ),
    ],
)
def test_what_no_ranks_can_do_together_is_refused(one_rank, estimator, words):
    """In words, by fit and partial_fit; without data_parallel it is not."""
    with data_parallel():
        with pytest.raises(ValueError, match=words):
            estimator.fit(X, Y)
        if hasattr(estimator, "partial_fit"):
            with pytest.raises(ValueError, match=words):
                estimator.partial_fit(X, Y)
    assert not hasattr(estimator, "t_")


def test_wide_sparse_rows_are_refused(one_rank):
    """Their steps are those of one process."""
    from scipy.sparse import csr_array

    with data_parallel(), pytest.raises(ValueError, match="5000 features; hash"):
        MiniBatchRegressor().fit(csr_array((60, 5000)), Y)


def test_a_group_must_be_there():
    """The error says how to get one."""
    with pytest.raises(RuntimeError, match="init_process_group first"), data_parallel():
        pass


def test_a_torch_without_distributed_is_told(monkeypatch):
    """Some builds have none."""
    monkeypatch.setattr(dist, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="a build of torch without"), data_parallel():
        pass


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_seconds(one_rank, timeout):
    """Above 0."""
    with (
        pytest.raises(ValueError, match="seconds above 0"),
        data_parallel(timeout=timeout),
    ):
        pass


def test_only_the_context_makes_ranks(one_rank):
    """A group of torch's alone changes nothing, nor does a context that is over."""
    model = MiniBatchRegressor(max_iter=2, tol=None, random_state=0, engine="torch")
    plain = clone(model).fit(X, Y)
    with data_parallel():
        pass
    assert clone(model).fit(X, Y).coef_.tolist() == plain.coef_.tolist()
    with data_parallel():
        assert clone(model).fit(X, Y).coef_.tolist() != plain.coef_.tolist()


def test_a_held_out_share_that_leaves_a_rank_nothing_is_refused(one_rank):
    """A rank without rows to train on has no part in a step."""
    model = MiniBatchRegressor(
        early_stopping=True, validation_fraction=0.99, batch_size=4
    )
    with data_parallel(), pytest.raises(ValueError, match="leave every rank rows"):
        model.fit(X[:4], Y[:4])


def test_weights_that_are_all_zero_are_refused(one_rank):
    """Here as on all ranks; a call of a stream takes no step for them."""
    with data_parallel():
        with pytest.raises(ValueError, match="at least one non-zero"):
            MiniBatchRegressor().fit(X, Y, np.zeros(60))
        model = MiniBatchClassifier().partial_fit(X, Y > 0, [False, True], np.zeros(60))
    assert not hasattr(model, "t_")
