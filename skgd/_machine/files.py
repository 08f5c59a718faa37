"""Files that are whole at any moment: the old one until it is the new one.

A path names the old file, whole, or the new one, whole, wherever a write is cut short:
by a full disk, by a signal, by a loss of power. What a killed process leaves besides
is a temporary ``.skgd-....tmp`` beside the file, which nobody reads and anybody may
delete.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EBADF, EINVAL, EISDIR, ELOOP
from secrets import token_hex
from typing import Any, NoReturn

Path = str | os.PathLike[str]

# The bits of a mode that a new file takes over from an old one: to read, to write and
# to execute, but not to run as its owner.
_PERMISSIONS = 0o777

# What a file is called that is neither a file nor a directory.
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is whole at any moment: the old one until it is the new one.

    The data go to a new file in the same directory, and from memory to the disk, before
    it takes the name. Whatever cuts that short, a full disk, a kill or a loss of power,
    the old file is there as it was.

    Parameters
    ----------
    path : str or path-like
        What the file is called. A symbolic link is followed: the file that it leads to
        is written. An existing file keeps its permissions; a new one has those that the
        umask leaves.
    data : bytes-like
        All that the file is to hold.

    Returns
    -------
    None

    Raises
    ------
    OSError
        If the file cannot be written: there is no such directory, it may not be written
        to, the disk is full, or the path names a directory, a FIFO or a device. The old
        file is then as it was, and nothing is left beside it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skgd import write_atomically
    >>> path = Path(tempfile.mkdtemp()) / "answer"
    >>> write_atomically(path, b"42")
    >>> path.read_bytes()
    b'42'
    """
    if isinstance(data, str):
        raise TypeError("data must be bytes. Got a str; pass data.encode().")
    content = memoryview(data).cast("B")
    target = os.path.realpath(os.fsdecode(path))
    mode = _mode_of_old(path, target)
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".skgd-{token_hex(8)}.tmp")
    with _told(path):
        # The umask takes from what is asked for here. Nobody may read the new file
        # meanwhile who may not read the old one.
        descriptor = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0),
            0o666 if mode is None else mode & 0o666,
        )
        try:
            try:
                _write_all(descriptor, content)
                if mode is not None:
                    os.chmod(temporary, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_directory(directory)


def read_whole(path: Path) -> bytes:
    """Return all that a file holds; what is no file is refused, and not waited for."""
    with _told(path):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
        try:
            _check_kind(path, os.fstat(descriptor).st_mode)
        except BaseException:
            os.close(descriptor)
            raise
        with open(descriptor, "rb") as file:
            return file.read()


def check_directory(path: Path) -> None:
    """Raise OSError where no file may come to be, before there is one to write."""
    directory = os.path.dirname(os.path.realpath(os.fsdecode(path)))
    with _told(path):
        try:
            is_there = stat.S_ISDIR(os.stat(directory).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        if not is_there:
            msg = (
                f"The directory of {_shown(path)} must exist. Got none; make it, or "
                "choose another path."
            )
            raise FileNotFoundError(msg)
        if not _may_write(directory):
            raise PermissionError(EACCES, os.strerror(EACCES))


def _mode_of_old(path: Path, target: str) -> int | None:
    """Return the permissions of the file that is there, None if there is none."""
    with _told(path):
        try:
            mode = os.lstat(target).st_mode
        except FileNotFoundError:
            return None
        _check_kind(path, mode)
        if not _may_write(target):
            _refuse(path, PermissionError, None, "a file that may not be written to")
        return stat.S_IMODE(mode) & _PERMISSIONS


def _may_write(target: str) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(target, os.W_OK, effective_ids=effective)


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_directory(directory: str) -> None:
    """Bring to the disk that the file has this name, where directories can be synced.

    Windows, and some file systems, know no such thing; nor may every directory that is
    written to be opened.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EINVAL, EBADF):
            raise
    finally:
        os.close(descriptor)


def _check_kind(path: Path, mode: int) -> None:
    """Refuse what is no file."""
    if stat.S_ISDIR(mode):
        _refuse(path, IsADirectoryError, EISDIR, "a directory")
    if stat.S_ISLNK(mode):  # none has been followed to its end
        _refuse(path, OSError, ELOOP, "symbolic links in a circle")
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        _refuse(path, OSError, EINVAL, kind)


def _refuse(path: Path, kind: type[OSError], number: int | None, got: str) -> NoReturn:
    error = kind(f"{_shown(path)} must be a file. Got {got}; choose another path.")
    error.errno = number
    raise error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in errors of the block, of the system's, what is the matter with the path."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # said by us
            raise
        told = type(error)(_sentence(path, error))
        told.errno = error.errno
        raise told from error


def _sentence(path: Path, error: OSError) -> str:
    name, what = _shown(path), error.strerror
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return f"{name} is not there, or its directory is not ({what})."
        case PermissionError():
            return f"{name} may not be opened or written to here ({what})."
    return f"{name} could not be written or read: {what}. What was there is as it was."


def _shown(path: Any) -> str:
    return repr(os.fsdecode(path))
