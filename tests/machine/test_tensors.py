"""Arrays in and out, devices, threads and seeds."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch

from skgd._machine.devices import (
    device_named,
    to_numpy,
    to_tensor,
    zeros_like,
)
from skgd._machine.generators import copied, new_generator
from skgd._machine.threads import threads_beside, threads_for

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    """Compute on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0, 7, 2**17 + 3])
def test_zeros_are_those_of_torch_whoever_makes_them(length, dtype):
    """Large ones are NumPy's."""
    vector = torch.ones(length, dtype=dtype)
    zeros, expected = zeros_like(vector), torch.zeros_like(vector)
    assert (zeros.dtype, zeros.device) == (expected.dtype, expected.device)
    assert torch.equal(zeros, expected)
    assert torch.equal(vector, torch.ones(length, dtype=dtype))


def test_an_array_and_its_tensor_share_memory():
    """On the CPU nothing is copied, in either direction."""
    array = np.arange(6.0).reshape(2, 3)
    tensor = to_tensor(array, CPU)

    assert tensor.data_ptr() == array.ctypes.data
    assert np.shares_memory(to_numpy(tensor), array)


def test_a_read_only_array_is_not_copied_and_gives_no_warning(tmp_path):
    """Not even a memory map: torch would warn of either."""
    np.save(tmp_path / "x.npy", np.arange(6.0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_tensor(mapped, CPU)

    assert tensor.data_ptr() == mapped.ctypes.data
    assert tensor.tolist() == mapped.tolist()
    assert not mapped.flags.writeable


def test_the_memory_of_a_read_only_array_outlives_it():
    """The tensor keeps the array alive."""
    array = np.arange(1e5)
    array.flags.writeable = False
    tensor = to_tensor(array, CPU)
    del array
    np.ones(100_000)  # would take the place of what is no longer kept

    assert tensor.sum().item() == 99_999 * 1e5 / 2


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3)[:, ::-1],
        np.arange(6.0).reshape(2, 3).astype(">f8"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0).reshape(2, 6)[:, ::2],
    ],
    ids=["negative strides", "big-endian", "Fortran", "strided"],
)
def test_any_layout_becomes_the_same_numbers(array):
    """Strides and byte orders that torch refuses are copied, others taken."""
    assert to_tensor(array, CPU).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("work", "cores", "given", "number"),
    [(1, 8, None, 1), (10**9, 8, None, 2), (10**9, 2, None, 1), (10**9, 2, "2", 2)],
)
def test_the_number_of_threads_is_put_back(
    work, cores, given, number, two_threads, monkeypatch
):
    """Small work runs on one thread, other on all cores but one, or as many as given.

    Afterwards the number is as it was.
    """
    monkeypatch.setattr("skgd._machine.threads.n_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)

    def fail_inside():
        with threads_for(work):
            assert torch.get_num_threads() == number
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("workers", "cores", "number"), [(2, 2, 1), (2, 4, 2), (8, 4, 1), (2, 64, 2)]
)
def test_a_worker_has_its_share_of_the_cores(
    workers, cores, number, two_threads, monkeypatch
):
    """At least one, and no more threads than torch had."""
    monkeypatch.setattr("skgd._machine.threads.n_cores", lambda: cores)
    with threads_beside(workers):
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 2


def test_threads_that_start_in_a_fit_get_the_usual_number(two_threads):
    """One thread for the fit is not one thread for all that starts meanwhile."""
    with threads_for(1), ThreadPoolExecutor(1) as pool:
        assert torch.get_num_threads() == 1
        assert pool.submit(torch.get_num_threads).result() == 2


def test_auto_is_cuda_where_there_is_one():
    """device="auto" takes the GPU if there is one."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"

    assert device_named("auto").type == kind


def test_a_cuda_device_that_is_not_there_is_refused():
    """The error names what was asked for, and what to do."""
    with pytest.raises(ValueError, match="'cuda:99' was asked for, but"):
        device_named("cuda:99")


def test_a_seed_makes_a_generator_and_touches_no_global():
    """An int, a RandomState and None each make a generator of their own."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002

    assert new_generator(3).random() == new_generator(3).random()
    assert new_generator(None).random() != new_generator(None).random()
    first, second = (new_generator(np.random.RandomState(5)).random() for _ in range(2))
    assert first == second
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_a_random_state_goes_on():
    """A RandomState is drawn from, so it gives another generator the next time."""
    state = np.random.RandomState(5)

    assert new_generator(state).random() != new_generator(state).random()


def test_a_copied_generator_goes_on_as_the_first():
    """Also in the midst of a pair of small integers, of which one is kept."""
    generator = np.random.default_rng(7)
    generator.integers(10, size=3, dtype=np.int32)
    other = copied(generator)

    np.testing.assert_array_equal(
        other.integers(10, size=9, dtype=np.int32),
        generator.integers(10, size=9, dtype=np.int32),
    )
    assert other.random() == generator.random()
    for again in (copied(other), deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert again.bit_generator.state == generator.bit_generator.state


@pytest.mark.parametrize("kind", ["MT19937", "PCG64DXSM", "Philox", "SFC64"])
def test_a_generator_of_any_kind_is_copied(kind):
    """Whoever pickled a model may have had another one, set by hand."""
    generator = np.random.Generator(getattr(np.random, kind)(3))
    other = copied(generator)
    assert type(other.bit_generator) is type(generator.bit_generator)
    assert other.normal(size=9).tolist() == generator.normal(size=9).tolist()
