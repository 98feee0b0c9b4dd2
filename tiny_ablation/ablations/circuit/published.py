"""Circuits that papers publish as tables of heads, with the figures that a reproduction is held against.

Facts only: which heads, and which numbers. `ablation.reproduce=NAME` scores the published circuit on the data at hand and says
how far the ranking agrees with it. The prompts here are this package's own families, not those of the papers, and MLPs are
never replaced here, so figures agree within `TOLERANCE`, not to the digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tiny_ablation.ablations.shared.sites import Head

TOLERANCE = 0.25
"""The share of a published figure that one measured on other prompts may differ by."""


@dataclass(frozen=True)
class Published:
    """A published circuit."""

    model: str  # whose, in words
    size: tuple[int, int]  # its layers and heads a layer
    classes: Mapping[str, tuple[Head, ...]]  # the heads by the name that the paper gives their class
    source: str  # the paper, and where the table of heads is
    dataset: str  # the family of this package whose prompts ask for the behaviour
    # published numbers by `baseline METRIC` (of the whole model) or `faithfulness` (f of the circuit)
    figures: Mapping[str, float]

    @property
    def heads(self) -> tuple[Head, ...]:
        """All of them, in the order of the model."""
        return tuple(sorted(head for of_class in self.classes.values() for head in of_class))


PUBLISHED: Mapping[str, Published] = {
    "ioi": Published(
        model="GPT-2 small",
        size=(12, 12),
        classes={
            "name movers": ((9, 6), (9, 9), (10, 0)),
            "backup name movers": ((9, 0), (9, 7), (10, 1), (10, 2), (10, 6), (10, 10), (11, 2), (11, 9)),
            "negative name movers": ((10, 7), (11, 10)),
            "S-inhibition": ((7, 3), (7, 9), (8, 6), (8, 10)),
            "induction": ((5, 5), (5, 8), (5, 9), (6, 9)),
            "duplicate token": ((0, 1), (0, 10), (3, 0)),
            "previous token": ((2, 2), (4, 11)),
        },
        source="Wang et al. 2022, Interpretability in the Wild (arXiv:2211.00593), figure 2 and section 4",
        dataset="ioi",
        figures={"baseline logit_diff": 3.56, "faithfulness": 0.87},
    ),
    "greater_than": Published(
        model="GPT-2 small",
        size=(12, 12),
        classes={
            "start year": ((0, 1), (0, 3), (0, 5)),
            "to the late MLPs": ((5, 5), (6, 1), (6, 9), (7, 10), (8, 11), (9, 1)),
        },
        source=(
            "Hanna et al. 2023, How does GPT-2 compute greater-than? (arXiv:2305.00586); heads as Conmy et al. 2023 list them "
            "(ACDC, appendix on greater-than)"
        ),
        dataset="greater_than",
        figures={"baseline prob_diff": 0.817},
    ),
    "docstring": Published(
        model="attn-only-4l, four layers of attention alone",
        size=(4, 8),
        classes={"earlier heads": ((0, 5), (1, 2), (1, 4), (2, 0)), "argument movers": ((3, 0), (3, 6))},
        source=(
            "Heimersheim & Janiak 2023, A circuit for Python docstrings in a 4-layer attention-only transformer; heads as in "
            "the manual graph of Conmy et al. 2023 (ACDC, appendix on docstrings)"
        ),
        dataset="docstring",
        figures={},
    ),
}
