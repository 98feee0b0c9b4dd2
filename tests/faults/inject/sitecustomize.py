"""Faults that reach every Python process below a command: a kill at a chosen file operation, another version of a library.

Python imports this module at its start where its directory stands in PYTHONPATH.
"""

import os
import sys

if "FAULT_KILL_AT" in os.environ:
    # SIGKILL just before the n-th operation that changes the file system below a directory.
    import signal

    _at, _under, _seen = int(os.environ["FAULT_KILL_AT"]), os.environ["FAULT_KILL_UNDER"], 0
    _count = os.open(os.environ["FAULT_COUNT"], os.O_WRONLY | os.O_CREAT) if "FAULT_COUNT" in os.environ else None
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

if "FAULT_VERSION" in os.environ:
    # `torch 9.9.9`: the library says that it has that version.
    import importlib.metadata

    _name, _other = os.environ["FAULT_VERSION"].split()
    _version = importlib.metadata.version
    importlib.metadata.version = lambda name: _other if name == _name else _version(name)
