"""What is compiled is kept on disk, and is what the sources say, come what may."""

import gc
import os
import shutil
import subprocess
import sys
import warnings
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from compiled_cases import places
from numba.core import caching, config

import skgd._compiled
from skgd._compiled import entries, jit
from skgd._compiled.optimizers import COLUMNS, NEUTRAL

HERE = Path(skgd._compiled.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give the folder in which numba keeps what it compiles."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_warned", [])
    return tmp_path


def compiled():
    """Return an entry that was not asked for before."""
    return entries.update_entry.__wrapped__("sgd", "<f8")


def steps_by_lr(entry):
    """Return whether an entry takes the step of plain descent, w - lr g."""
    w, g, c = np.array([3.0]), np.array([2.0]), np.array(NEUTRAL)
    c[COLUMNS.index("lr")] = 0.5
    entry.ctypes(*places(w, g, w, w, c), 1, 1)
    return w[0] == 2.0


def files_in(folder, kind):
    return list(folder.rglob(f"*.{kind}"))


def test_what_was_compiled_is_read_from_disk(folder):
    """The second time it is not compiled."""
    assert not compiled().cache_hits
    again = compiled()

    assert again.cache_hits == 1
    assert steps_by_lr(again)


@pytest.mark.parametrize("size", [0, 10, 200])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_files_are_written_anew(folder, kind, size):
    """Of the index, or of what it lists: those that were cut short, and in silence."""
    compiled()
    for path in files_in(folder, kind):
        path.write_bytes(path.read_bytes()[:size])
    with warnings.catch_warnings(action="error"):
        again = compiled()

    assert not again.cache_hits
    assert steps_by_lr(again)
    assert compiled().cache_hits == 1


def test_a_disk_that_is_full_is_told_once(folder, monkeypatch):
    """All is compiled, and nothing else goes wrong, whichever file it is about."""
    files = count()

    def full(*args):
        raise OSError(f"No space left on device: {next(files)}")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    with pytest.warns(UserWarning, match="No space left.*NUMBA_CACHE_DIR"):
        assert steps_by_lr(compiled())
    with warnings.catch_warnings(action="error"):
        assert steps_by_lr(compiled())


def test_an_error_that_is_no_damage_is_raised(folder, monkeypatch):
    """No file is thrown away that was read well, if it makes no function."""
    compiled()
    files = files_in(folder, "nb*")

    def fail(*args):
        raise TypeError("no function")

    monkeypatch.setattr(jit._Implementation, "rebuild", fail)
    with pytest.raises(TypeError, match="no function"):
        compiled()
    assert files_in(folder, "nb*") == files


def nowhere(*args):
    """Say that a place cannot be written to, as a locator of numba does."""
    raise OSError("Read-only file system")


def test_where_nothing_can_be_written_all_is_compiled(folder, monkeypatch):
    """A warning says so, and what to do."""
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", nowhere)
    with pytest.warns(UserWarning, match="Read-only.*NUMBA_CACHE_DIR"):
        assert steps_by_lr(compiled())


def test_garbage_is_collected_again_after_compiling(folder):
    """numba makes much of it, and compiles faster with nobody looking through it."""
    compiled()
    assert gc.isenabled()
    gc.disable()
    try:
        compiled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_cannot_be_written_is_read(folder, monkeypatch):
    """So an image of a machine can bring along what was compiled when it was made."""
    compiled()
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", nowhere)
    with warnings.catch_warnings(action="error"):
        again = compiled()

    assert again.cache_hits == 1
    assert steps_by_lr(again)


SCRIPT = """
import numpy as np
from skgd._compiled.entries import update_entry
from skgd._compiled.optimizers import NEUTRAL
entry = update_entry("sgd", "<f8")
print(entry.cache_hits)
"""


@pytest.fixture
def alone(tmp_path):
    """Copy the package to where its processes import nothing else of skgd."""
    package = tmp_path / "skgd" / "_compiled"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "skgd" / "__init__.py").touch()
    return package


def started(folder, script):
    """Start a process that compiles, or reads, in a folder of its own."""
    places = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **places},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def hits_of(*processes):
    """Return how often each found what it asked for."""
    told = [process.communicate(timeout=600)[0] for process in processes]
    assert not any(process.returncode for process in processes)
    return [int(words) for words in told]


def test_an_edit_of_another_file_is_noticed(alone, tmp_path):
    """A function is not read from disk where one that it calls has changed."""
    assert hits_of(started(tmp_path, SCRIPT)) == [0]
    assert hits_of(started(tmp_path, SCRIPT)) == [1]
    with (alone / "arithmetic.py").open("a") as file:
        file.write("# An edit.\n")
    assert hits_of(started(tmp_path, SCRIPT)) == [0]


def test_two_processes_may_compile_at_once(alone, tmp_path):
    """Both do, and a third reads what they have kept."""
    both = hits_of(*[started(tmp_path, SCRIPT) for _ in range(2)])

    assert set(both) <= {0, 1}
    assert hits_of(started(tmp_path, SCRIPT)) == [1]


FORKED = """
import os
import numpy as np
from skgd import MiniBatchRegressor
def fit():
    model = MiniBatchRegressor(engine="numba", max_iter=3, tol=None, random_state=0)
    return model.fit(np.arange(40.0).reshape(10, 4) / 40, np.arange(10.0)).coef_
before = fit()
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(fit(), before) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this machine")
def test_a_fork_after_compiling_trains_the_same():
    """What was compiled is the child's too."""
    command = [sys.executable, "-c", FORKED]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert told.stdout.strip() == "0"


def test_processes_that_keep_another_kind_at_once_do_not_mix_them(folder, monkeypatch):
    """Each has read a list of what is kept in which the other's is not yet."""
    unpatched = caching.IndexDataCacheFile._load_index
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", lambda self: {})
    entries.update_entry.__wrapped__("sgd", "<f8")
    entries.update_entry.__wrapped__("sgd", "<f4")
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", unpatched)
    for dtype in ("<f4", "<f8"):
        entry = entries.update_entry.__wrapped__("sgd", dtype)
        w, g, c = (np.array(values, dtype) for values in ([3.0], [2.0], NEUTRAL))
        c[COLUMNS.index("lr")] = 0.5
        entry.ctypes(*places(w, g, w, w, c), 1, 1)

        assert entry.cache_hits == 1
        assert w[0] == 2.0
