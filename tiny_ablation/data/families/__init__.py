"""The behaviours that ship with the tool: one module each, holding a `FAMILY`.

A family is found by its module's name: `dataset.family=ioi` reads `families/ioi.py`. Adding one is one
module here and one YAML file in `conf/dataset/`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tiny_ablation.data.examples import Example


@dataclass(frozen=True)
class Family:
    """A behaviour and how to make its examples."""

    name: str  # the module's name
    description: str  # one sentence: what the model is asked to do
    # `build(seed, corruption)` returns the whole pool of examples, in a fixed order, without touching any global random state.
    # A family written by hand ignores the seed.
    build: Callable[[int, str], list[Example]]
    seeded: bool = False  # whether the seed draws the prompts themselves; where not, it only draws which are used
    corruptions: tuple[str, ...] = ("default",)  # the kinds of corrupt prompt it can make, the default first
    # whether the behaviour is to find the answer in the prompt (induction, indirect objects); where it is not, a prompt that
    # holds its answer is refused
    answer_in_prompt: bool = False
    # the metric that a run ranks sites by where `metrics.primary` names none (at `metrics.span=first`)
    primary: str = "logit_diff"
