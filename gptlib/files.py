"""A reader's paths, folders that one process uses at a time, and what helps when a file system refuses."""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
GONE = {errno.ENOENT, errno.ENOTEMPTY, errno.ESTALE}  # between two looks at it
# What network drives, Google Drive and WSL say to a call that they do not have.
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.ENODEV}

OWN_FOLDER = "give each run a checkpoint_dir of its own"


def expanded(path: str | os.PathLike) -> Path:
    """Return a path with ~ replaced by the home folder. Raises ValueError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{path} begins at a home folder that is not known here: write the path without ~, or put ./ "
            "before a name that begins with it"
        ) from None


def remedy(error: BaseException) -> str:
    """Return what helps against an error of a file system, as a clause that a comma may follow."""
    while error.__cause__:
        error = error.__cause__
    told = re.search(r"os error (\d+)", str(error))  # safetensors has the number in its text alone
    number = int(told[1]) if told else getattr(error, "errno", None)
    if number in FULL:
        return "make room"
    if number in FORBIDDEN:
        return "allow this user to write there"
    if number in IN_THE_WAY:
        return "move away what has that name, if no other process uses this folder"
    if number in GONE:
        return "another process uses this folder, or deleted it: wait for that process"
    return "see that the disk is there and sound"


@contextmanager
def locked(path: Path, advice: str, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file, which the system takes back from a process that dies; wait while another holds it.

    Raises filelock.Timeout after `timeout` seconds, if that is not negative. On a file system without locks
    it warns, with `advice`, and goes on. What lies in a folder that cannot be written to may be read.
    """
    lock = FileLock(path, timeout)
    try:
        lock.acquire()
    except NotImplementedError as error:  # filelock before 3.20
        _without_locks(path, error, advice)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            _without_locks(path, error, advice)
        elif error.errno not in FORBIDDEN or not any(path.parent.iterdir()):
            raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a checkpoint_dir and hold it while a run lasts. Raises OSError when another run holds it."""
    lock = folder / ".in-use"
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(lock, OWN_FOLDER, timeout=0))
        except Timeout:
            raise OSError(f"another process uses the checkpoint_dir {folder}: {OWN_FOLDER}") from None
        except OSError as error:
            raise OSError(
                f"checkpoints cannot be written to {folder} ({error}): {remedy(error)}, or give another "
                "checkpoint_dir"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows takes it away by itself
                lock.unlink()


def delete(folder: Path) -> None:
    """Delete what can be, emptied first: Google Drive keeps deleted files, at their size, in its trash."""
    for path in folder.glob("*"):
        with suppress(OSError):
            os.truncate(path, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _without_locks(path: Path, error: Exception, advice: str) -> None:
    warnings.warn(
        f"the file system of {path.parent} has no file locks ({error}), so nothing keeps two processes from "
        f"writing there at once: {advice}",
        stacklevel=2,
    )
