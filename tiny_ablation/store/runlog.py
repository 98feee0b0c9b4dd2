"""`run.log` of a run directory: what the run did and when, its warnings, and the traceback of what it did not expect.

Bounded: the newest megabyte, and the one before it in `run.log.1`. Nothing depends on it, it is no part of the manifest, and a
run does not fail because its log cannot be written, or because a file of the user's has its name.
`conf/hydra/job_logging/quiet.yaml` opens it; where that is not in force, what is said here goes nowhere.
"""

import logging
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 1_000_000

log = logging.getLogger("tiny_ablation.run")
log.addHandler(logging.NullHandler())  # otherwise Python prints what nobody handles
log.propagate = False


class RunLog(RotatingFileHandler):
    """The file; made when the first line is written, so that a refused command leaves nothing."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)

    def _open(self) -> TextIOWrapper:
        from tiny_ablation.store.ledger import open_ledger
        from tiny_ablation.store.rundir_guard import refuse_foreign

        path = Path(self.baseFilename)
        refuse_foreign(path.parent)
        ledger = open_ledger(path.parent)
        for each in (path, path.with_name(f"{path.name}.1")):
            ledger.admit_log(each)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told by whoever writes results."""
