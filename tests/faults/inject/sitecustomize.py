"""Faults that reach every Python process below a command: a clock that is set back, and a kill at a chosen file operation.

Python imports this module at its start where its directory stands in PYTHONPATH.
"""

import os
import sys

if "FAULT_CLOCK_BACK_AT" in os.environ:
    # The clock is set back by so many seconds once a process has run for a while, as a time server would.
    import time

    _real, _begun = time.time, time.monotonic()
    _after, _back = map(float, os.environ["FAULT_CLOCK_BACK_AT"].split(","))

    def _time():
        return _real() - (_back if time.monotonic() - _begun > _after else 0.0)

    time.time = _time
    time.time_ns = lambda: int(_time() * 1e9)
    import datetime as _datetime

    _class = _datetime.datetime

    class _Every(type):
        def __instancecheck__(cls, value):
            return isinstance(value, _class)

    class _Moved(_class, metaclass=_Every):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(_time(), tz)

    _datetime.datetime = _Moved

if "FAULT_KILL_AT" in os.environ:
    # SIGKILL just before the n-th operation that changes the file system below a directory.
    import signal

    _at, _under, _seen = int(os.environ["FAULT_KILL_AT"]), os.environ["FAULT_KILL_UNDER"], 0
    _count = (
        os.open(os.environ["FAULT_COUNT"], os.O_WRONLY | os.O_CREAT) if "FAULT_COUNT" in os.environ else None
    )
    _CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
    _WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def _watch(event, args):
        global _seen
        opened = event == "open" and isinstance(args[2], int)
        changes = bool(args[2] & _WRITE) if opened else event in _CHANGES
        if not changes or not isinstance(args[0], str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(args[0])).startswith(_under):
            return
        _seen += 1
        if _seen == _at:
            os.kill(os.getpid(), signal.SIGKILL)
        if _count is not None:
            os.pwrite(_count, str(_seen).encode(), 0)

    sys.addaudithook(_watch)
