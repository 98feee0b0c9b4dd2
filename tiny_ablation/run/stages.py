"""The stages behind a measurement, each of which may fail alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tiny_ablation.errors import Interrupted, TinyAblateError, said, user_message
from tiny_ablation.store.profile import Profile
from tiny_ablation.store.runlog import log


@dataclass
class Stages:
    """Stages that were tried.

    Attributes:
        profile: each is a stage of it.
        warn: tells the user of one that failed.
        failed: why, for each that failed, in the order in which they did.
    """

    profile: Profile
    warn: Callable[[str], None]
    failed: dict[str, TinyAblateError] = field(default_factory=dict)

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Within: an error ends this stage, is told and written down, and the run goes on behind it.

        Raises:
            Interrupted: the user wants the run to end.
        """
        with self.profile.stage(name):
            try:
                yield
            except Interrupted:
                raise
            except Exception as error:
                told = user_message(error)
                log.error("%s failed: %s", name, error, exc_info=told is None)
                self.failed[name] = told or TinyAblateError(said(error))
                self.warn(f"{name} failed: {self.failed[name]}")
