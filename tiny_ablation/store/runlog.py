"""`run.log` of a run directory: what the run did and when, its warnings, and the traceback of what it did not expect.

Bounded: the newest megabyte, and the one before it in `run.log.1`. Nothing depends on it, it is no part of the manifest, and a
run does not fail because its log cannot be written. `conf/hydra/job_logging/quiet.yaml` opens it; where that is not in force,
what is said here goes nowhere.
"""

import logging
from logging.handlers import RotatingFileHandler

MAX_BYTES = 1_000_000

log = logging.getLogger("tiny_ablation.run")
log.addHandler(logging.NullHandler())  # otherwise Python prints what nobody handles
log.propagate = False


class RunLog(RotatingFileHandler):
    """The file; made when the first line is written, so that a refused command leaves nothing.

    Args:
        filename: where.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told by whoever writes results."""
