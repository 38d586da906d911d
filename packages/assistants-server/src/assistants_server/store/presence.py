"""Which processes of this host are alive: each holds a lock on a file, and the lock dies with it.

A lease tells that a process is silent; this tells at once that it is gone, so that whoever starts
again after a crash finds no thread locked by itself. It is knowledge on top: where there is no lock
to look at (another host, another system), the lease alone decides, as ever.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_UNBORN = ".new"


class Presence:
    """The locks in ``folder``; with ``None`` nobody is ever known to be gone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder if sys.platform != "win32" else None  # which has no flock
        self._held: dict[str, int] = {}
        self._gone: set[str] = set()

    @property
    def watches(self) -> bool:
        """Whether it can tell of anybody at all."""
        return self._folder is not None

    def enter(self, name: str) -> None:
        """Be present as ``name`` until :meth:`leave`, or the end of this process."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            for other in self._folder.iterdir():
                self.has_gone(other.name)  # takes its file away
            born = self._folder / (name + _UNBORN)
            lock = os.open(born, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held[name] = lock
            born.rename(self._folder / name)  # seen only once it is locked
        except OSError:
            return  # a file system without locks, or a full one: the lease decides

    def leave(self, name: str) -> None:
        lock = self._held.pop(name, None)
        if lock is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
            os.close(lock)

    def has_gone(self, name: str) -> bool:
        """Whether the process that was ``name`` is known to be dead."""
        if name in self._gone:
            return True
        if self._folder is None or name in self._held or name.endswith(_UNBORN):
            return False
        path = self._folder / name
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except OSError:
            return False
        finally:
            os.close(lock)
        self._gone.add(name)
        return True

    def close(self) -> None:
        for name in list(self._held):
            self.leave(name)
