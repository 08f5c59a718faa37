"""A file is the old one, whole, or the new one, whole, whatever cuts a write short."""

import os
import signal
import socket
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from skgd import write_atomically
from skgd._machine.files import read_whole

ROOT = Path(__file__).parents[2]


@contextmanager
def umask(mask):
    """Let files be created under this mask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("path_of", [str, Path, os.fsencode], ids=["str", "Path", "b"])
def test_a_file_holds_what_was_written(tmp_path, path_of):
    """What is there is the new content, of any bytes-like, and nothing beside it."""
    path = tmp_path / "file"
    for data in (b"some", b"", bytearray(b"other"), np.arange(6).reshape(2, 3)):
        write_atomically(path_of(path), data)
        assert path.read_bytes() == bytes(data) == read_whole(path_of(path))
    assert names_in(tmp_path) == ["file"]


def test_a_relative_path_is_of_the_current_directory(tmp_path, monkeypatch):
    """A bare name does, too."""
    monkeypatch.chdir(tmp_path)
    write_atomically("file", b"some")
    assert (tmp_path / "file").read_bytes() == b"some"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_open_gives(tmp_path, mask):
    """The umask decides, as for any file."""
    with umask(mask):
        (tmp_path / "other").write_bytes(b"")
        write_atomically(tmp_path / "file", b"some")
    assert mode_of(tmp_path / "file") == mode_of(tmp_path / "other")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_an_old_file_keeps_its_mode(tmp_path, mode):
    """Whatever the umask: as where a file is opened and written."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    with umask(0o022):
        write_atomically(path, b"new")
    assert mode_of(path) == mode
    assert path.read_bytes() == b"new"


def test_a_private_file_is_private_while_it_is_written(tmp_path, monkeypatch):
    """The temporary can be read by nobody who may not read the file."""
    path, modes = tmp_path / "file", []
    path.write_bytes(b"old")
    path.chmod(0o600)
    write = os.write

    def spied(descriptor, content):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", spied)
    with umask(0):
        write_atomically(path, b"new")
    assert modes == [0o600]


def test_a_link_is_followed(tmp_path):
    """The file that it leads to is written, and made if it is not there."""
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "file"
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(target)
    for data in (b"new", b"newer"):
        write_atomically(tmp_path / "first", data)
        assert target.read_bytes() == data
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert names_in(tmp_path) == ["first", "second", "there"]


def test_the_disk_has_the_file_before_it_has_the_name(tmp_path, monkeypatch):
    """Data, then the name, then the directory: a loss of power leaves old or new."""
    calls = []

    def noted(name):
        call = getattr(os, name)

        def made(first, *others, **named):
            kind = "file"
            if name == "fsync" and stat.S_ISDIR(os.fstat(first).st_mode):
                kind = "directory"
            calls.append((name, kind))
            return call(first, *others, **named)

        monkeypatch.setattr(os, name, made)

    for name in ("write", "fsync", "replace"):
        noted(name)
    write_atomically(tmp_path / "file", b"some")
    assert calls == [
        ("write", "file"),
        ("fsync", "file"),
        ("replace", "file"),
        ("fsync", "directory"),
    ]


@pytest.mark.parametrize("call", ["write", "fsync", "chmod", "close", "replace"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, call, error):
    """Nothing of the new one is left, and the error is told."""
    path, real = tmp_path / "file", getattr(os, call)
    path.write_bytes(b"old")

    def fails(*args):
        if call == "close":
            real(*args)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises((OSError, KeyboardInterrupt)) as told:
            write_atomically(path, b"new")
    if isinstance(told.value, OSError):
        assert "is as it was" in str(told.value)
        assert told.value.errno == 5
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("ignored", [True, False], ids=["full disk", "killed"])
def test_a_write_that_is_cut_short(tmp_path, monkeypatch, ignored):
    """Of a file that may not grow any further the old one is whole, at any byte."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.durability import cut_short

    n, told, killed, whole, left = cut_short(
        str(tmp_path), ignored=ignored, n_bytes=2000, step=10
    )
    assert n == whole == 200
    assert (told, killed) == ((n, 0) if ignored else (0, n))
    assert left == (0 if ignored else n)  # temporaries, which nobody reads


# What is refused


@pytest.fixture
def kinds(tmp_path):
    """Give paths that are no files, by what is said of them."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    (tmp_path / "no").write_bytes(b"directory")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    return {
        "a directory": tmp_path / "directory",
        "a FIFO": tmp_path / "fifo",
        "a socket": tmp_path / "socket",
        "a device": Path(os.devnull),
        "in a circle|Too many levels": tmp_path / "one",
        "its directory is not|No such file": tmp_path / "nowhere" / "file",
        "Not a directory": tmp_path / "no" / "file",
        "File name too long": tmp_path / ("x" * 300),
    }


def test_what_is_no_file_is_refused_in_a_sentence(kinds, tmp_path):
    """It names the path and what is there, at once, and leaves nothing behind."""
    before = names_in(tmp_path)
    for got, path in kinds.items():
        with pytest.raises(OSError, match=got) as told:
            write_atomically(path, b"new")
        assert str(path) in str(told.value)
        assert str(told.value).count("\n") == 0
        assert told.value.errno
    assert names_in(tmp_path) == before


def test_what_is_no_file_is_not_read(kinds):
    """A FIFO that nobody writes to is not waited for."""
    signal.alarm(20)
    try:
        for path in kinds.values():
            with pytest.raises(OSError, match=r"must be a file|could not|is not there"):
                read_whole(path)
    finally:
        signal.alarm(0)


@contextmanager
def nobody():
    """Be a user who may do little, if we are one who may do all."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_written_is_refused_in_a_sentence():
    """A directory of others, and a file that is only to be read."""
    with nobody():
        directory = Path("/")
        assert not os.access(directory, os.W_OK, effective_ids=True)
        with pytest.raises(PermissionError, match="may not be opened or written"):
            write_atomically(directory / "file", b"new")
        with tempfile.TemporaryDirectory() as own:
            path = Path(own) / "file"
            path.write_bytes(b"old")
            path.chmod(0o444)
            with pytest.raises(PermissionError, match="may not be written to"):
                write_atomically(path, b"new")
            assert path.read_bytes() == b"old"
            path.chmod(0o000)
            with pytest.raises(PermissionError, match="may not be opened"):
                read_whole(path)
            assert names_in(Path(own)) == ["file"]


@pytest.mark.parametrize("data", ["text", None, 3])
def test_what_is_no_bytes_is_refused(tmp_path, data):
    """Nothing is written."""
    with pytest.raises(TypeError, match="bytes"):
        write_atomically(tmp_path / "file", data)
    assert not names_in(tmp_path)
