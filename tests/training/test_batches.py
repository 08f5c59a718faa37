"""Which rows the batches of an epoch hold, and what is gathered of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skgd._machine.generators import rows_of_epoch
from skgd._training.batches import Data, batch_sizes
from skgd._training.sources import bind_batch, bind_batch_ahead


@pytest.mark.parametrize("n_samples", [1, 7, 10, 12])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 12, 100, None])
def test_sizes_are_what_the_last_batch_is_for(n_samples, batch_size):
    """Kept, the batches hold all rows; dropped, only full ones; filled, only full."""
    kept, dropped, filled = (
        batch_sizes(n_samples, batch_size, last) for last in ("keep", "drop", "fill")
    )
    size = min(batch_size or n_samples, n_samples)

    assert sum(kept) == n_samples
    assert kept[:-1] == [size] * (len(kept) - 1)
    assert dropped == [size] * (n_samples // size)
    assert filled == [size] * len(kept)


@pytest.mark.parametrize("n", [50, 10_001])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_seen_once(shuffle, n):
    """An epoch of as many rows as samples is a permutation of them."""
    rows = rows_of_epoch(np.random.default_rng(0), n, n, shuffle=shuffle)

    assert sorted(rows) == list(range(n))
    assert (list(rows) == list(range(n))) is not shuffle


def test_rows_of_a_large_set_are_anywhere():
    """Each place of the order is as likely for every row: the mean place is the same.

    That of an eighth of the rows, in 50 orders, is within four standard deviations.
    """
    generator, n = np.random.default_rng(0), 10_008
    places = np.mean(
        [
            np.argsort(rows_of_epoch(generator, n, n, shuffle=True)).reshape(8, -1)
            for _ in range(50)
        ],
        axis=(0, 2),
    )

    sd = np.sqrt((n**2 - 1) / 12 / (50 * n / 8))
    assert abs(places - (n - 1) / 2).max() < 4 * sd


def test_no_row_is_left_out_twice_as_often():
    """With "drop", all rows are left out equally often: the shuffle goes first."""
    generator = np.random.default_rng(0)
    seen = np.zeros(7)
    for _ in range(700):
        seen[rows_of_epoch(generator, 7, 6, shuffle=True)] += 1

    assert seen.sum() == 4200
    assert abs(700 - seen - 100).max() < 50  # 5 standard deviations


def test_filling_draws_from_the_whole_set():
    """With "fill", the rows on top come from anywhere in the training set."""
    generator = np.random.default_rng(0)
    extra = [rows_of_epoch(generator, 7, 9, shuffle=False)[7:] for _ in range(50)]

    assert set(np.concatenate(extra).tolist()) == set(range(7))


def test_the_same_seed_gives_the_same_order():
    """The order depends on the generator alone."""
    first, second = (
        rows_of_epoch(np.random.default_rng(3), 20, 22, shuffle=True) for _ in "ab"
    )

    assert np.array_equal(first, second)


def random_data(n_samples=11, weighted=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_samples, 3, generator=generator)
    y = torch.randn(2, n_samples, generator=generator)
    weight = torch.rand(1, n_samples, generator=generator) if weighted else None
    return Data(x, y, weight)


def fill(batch, rows):
    for gather in batch.gathers:
        gather(torch.tensor(rows))
    for call in batch.finishes:
        call()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_is_the_rows_of_the_data(weighted):
    """Inputs, targets and weights are those of the rows, time after time."""
    data = random_data(weighted=weighted)
    batch = bind_batch(data, 2, 4)
    for rows in [3, 1, 4, 1], [5, 9, 2, 6]:
        fill(batch, rows)
        share = data.weight[0, rows] / 4 if weighted else torch.full((4,), 0.25)

        assert torch.equal(batch.x, data.x[rows].T)
        assert torch.equal(batch.y, data.y[:, rows])
        torch.testing.assert_close(batch.share, share.expand(2, 4))


@pytest.mark.parametrize("weighted", [False, True])
def test_models_may_have_batches_of_their_own(weighted):
    """With rows for each model, each model's part is the batch of its rows."""
    data = random_data(weighted=weighted)
    rows = [[3, 1, 4, 1], [5, 9, 2, 6], [0, 0, 0, 10]]
    batch = bind_batch(data, 2, 4, 3)
    fill(batch, np.ravel(rows))
    for m in range(3):
        alone = bind_batch(data, 2, 4)
        fill(alone, rows[m])

        assert torch.equal(batch.x[m], alone.x)
        assert torch.equal(batch.y[m], alone.y)
        assert torch.equal(batch.share[m], alone.share)


@pytest.mark.parametrize("whole", [False, True])
def test_class_numbers_become_one_hot(whole):
    """Class numbers are spread over the outputs, a batch at a time."""
    classes = torch.tensor([[2.0, 0.0, 1.0, 2.0, 1.0, 0.0]])
    rows = list(range(6)) if whole else [0, 2, 5]
    batch = bind_batch(Data(torch.ones(6, 1), classes, None), 3, len(rows))
    fill(batch, rows)

    expected = F.one_hot(classes[0, rows].long(), 3).T
    assert torch.equal(batch.y, expected.float())


def test_the_whole_set_is_not_copied():
    """A batch of all rows is the data themselves."""
    data = random_data()
    batch = bind_batch(data, 2, 11)

    assert batch.x.data_ptr() == data.x.data_ptr()
    assert batch.y.data_ptr() == data.y.data_ptr()
    assert not batch.gathers


@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_of_some_rows_is_gathered_by_their_numbers(weighted):
    """Where only some rows count, a batch names them by their place in the arrays."""
    data = random_data(weighted=weighted)
    some = data._replace(rows=np.array([2, 3, 5, 7, 9]))
    rows = [9, 2, 5]
    batch, same = bind_batch(some, 2, 3), bind_batch(data, 2, 3)
    fill(batch, rows)
    fill(same, rows)

    assert some.n_samples == 5
    for ours, theirs in zip(batch[:3], same[:3], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("n_folds", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_whole_of_some_rows_is_gathered_once(weighted, n_folds):
    """A batch of all rows that count holds them in their order, from the start."""
    data = random_data(weighted=weighted)
    rows = np.array([7, 2, 5])
    batch = bind_batch(data._replace(rows=rows), 2, 3, n_folds)
    share = data.weight[:, rows] / 3 if weighted else torch.full((1, 3), 1 / 3)

    assert not batch.gathers
    assert not batch.finishes
    assert torch.equal(batch.x, data.x[rows].T)
    assert torch.equal(batch.y, data.y[:, rows])
    torch.testing.assert_close(batch.share, share.expand(2, 3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [False, True])
def test_batches_that_are_fetched_ahead_are_those_fetched_alone(classes, weighted):
    """Also the last ones, which are fewer than are fetched at a time."""
    data = random_data(weighted=weighted)
    if classes:
        data = data._replace(y=(torch.arange(11) % 2).to(data.y.dtype)[None])
    ahead, alone = bind_batch_ahead(data, 2, 3, 9), bind_batch(data, 2, 3)
    rows = torch.arange(33) % 11
    for some in torch.split(rows[:33], ahead.n_ahead * 3):
        for piece, batch in zip(ahead.fetch(some), torch.split(some, 3), strict=True):
            for gather in ahead.gathers:
                gather(piece)
            fill(alone, batch.tolist())

            assert not ahead.finishes
            for ours, theirs in zip(ahead[:3], alone[:3], strict=True):
                assert torch.equal(ours, theirs)


def test_large_batches_are_not_fetched_ahead():
    """Nor few, nor the whole set."""
    data = random_data()

    assert bind_batch_ahead(data, 2, 3, 2) is None
    assert bind_batch_ahead(data, 2, 11, 50) is None
    wide = data._replace(x=torch.ones(11, 4000))
    assert bind_batch_ahead(wide, 2, 3, 50) is None
