"""What tests of the kinds share: a planning context over a toy model."""

from collections.abc import Callable, Sequence

import pytest

from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network
from tiny_ablation.run.plan import PlanContext, ReferenceSet


@pytest.fixture(scope="session")
def make_context() -> Callable[..., PlanContext]:
    """A context over given clean prompts; what a test does not name is filled in."""

    def make(
        network: Network,
        clean: Sequence[Prompt],
        *,
        corrupt: Sequence[Prompt] = (),
        groups: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
        seed: int = 0,
        full: bool = False,
        reference: ReferenceSet | None = None,
    ) -> PlanContext:
        held = reference or ReferenceSet(list(clean), [""] * len(clean), ["train"] * len(clean), len(clean))
        return PlanContext(
            network=network, clean=clean, corrupt=corrupt, groups=groups or [p.name for p in clean],
            templates=templates or [""] * len(clean), seed=seed, full=full, reference=lambda _n: held,
        )  # fmt: skip

    return make
