"""Blur the subject with noise, restore one state at a time, and see where the answer comes back.

Answers: at which layers and tokens does what the model knows of the subject pass? The subject's embeddings get Gaussian noise;
then one hidden state, or the MLP or attention outputs of a window of layers around one, gets its value from the clean run (Meng
et al. 2022, "Locating and editing factual associations in GPT", section 2). The baseline is the noised run; an effect is the
indirect effect, `recovered` its share of the total effect of the noise. Values are means over the draws of noise, and over
the tokens that bear one name (`subject_middle`, `further`), each of which is restored alone; an example without such a token
does not count there. Costs `noise_draws` sweeps over layers x tokens.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from tiny_ablation.ablations.patching.noise import noise_on
from tiny_ablation.ablations.patching.patch_ablation import PatchAblation
from tiny_ablation.ablations.shared import prompt_pairs
from tiny_ablation.ablations.shared.replacements import Patch, patch_from
from tiny_ablation.ablations.shared.sites import chosen, window_around
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.run.plan import Arm, InterventionSpec, PlanContext, Row

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun


class Restored(Enum):
    """What is restored at a time."""

    layer_resid = "layer_resid"
    mlp_out = "mlp_out"
    attn_out = "attn_out"


@dataclass
class CausalTraceConfig(AblationConfig):
    """`ablation` keys of causal_trace."""

    granularities: list[Restored] = key(list(Restored), help="what is restored; MLP and attention outputs in windows of layers")
    layers: list[int] | None = key(None, help="null: all")
    noise: float = key(3.0, help="standard deviations of the embedding matrix", above=0)
    noise_draws: int = key(10, help="draws of noise; values are means over them", least=1)
    window: int = key(10, help="layers, for MLP and attention outputs", least=1)


NAMES = ("subject_first", "subject_middle", "subject_last", "first_after", "further", "last")


class CausalTrace(PatchAblation):
    """See the module."""

    name = "causal_trace"
    table = "position_impact"
    config = CausalTraceConfig
    confirmable = False  # its rows are put together from several arms
    draws = ("noise",)
    effect_name = "indirect effect"

    def plan(self, cfg: CausalTraceConfig, context: PlanContext) -> list[Arm]:
        """A arm a draw, and the clean run, to say what share is recovered."""
        prompt_pairs.require_mark(context.clean, "subject", "ablation=causal_trace")
        prompts, places = _with_names(context.clean)
        clean = patch_from(prompts, prompts)
        rows = [
            _row(cfg, granularity, layer, place, clean, context.shape.n_layers)
            for granularity in cfg.granularities
            for layer in chosen(cfg.layers, context.shape.n_layers, "ablation.layers", "layers")
            for place in places
        ]
        noised = [noise_on(context.network, prompts, "subject", cfg.noise, context.seed, d) for d in range(cfg.noise_draws)]
        about = f"the clean prompt with noise of {cfg.noise:g} standard deviations on its subject, nothing restored"
        arms = [Arm(prompts, rows, about, run="corrupt", base_intervention=noise) for noise in noised]
        return [*arms, Arm(prompts, [], in_table=False)]

    def combine(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> "Sequence[Measured]":  # noqa: ARG002
        """Means over draws, then over the tokens of one name; NaN for examples that have none."""
        noised = [m for m in measured if m.arm.base_intervention is not None]
        rest = [m for m in measured if m.arm.base_intervention is None]
        return [_over_tokens(_over_draws(noised)), *rest] if noised else rest


def _with_names(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[str]]:
    """The prompts with a mark for each token by its name and number, empty where there is none, and these marks in order."""
    named = [_numbered(prompt) for prompt in prompts]
    places = sorted(
        {place for marks in named for place in marks},
        key=lambda place: (NAMES.index(place.partition(" ")[0]), int(place.partition(" ")[2])),
    )
    nowhere = dict.fromkeys(places, ())
    return [replace(p, marks={**p.marks, **nowhere, **marks}) for p, marks in zip(prompts, named, strict=True)], places


def _numbered(prompt: Prompt) -> dict[str, tuple[int, ...]]:
    """Tokens by name and number, such as `further 0`; a subject of one token is its first and its last."""
    first, last = min(prompt.marks["subject"]), max(prompt.marks["subject"])
    tokens = {
        "subject_first": range(first, first + 1),
        "subject_middle": range(first + 1, last),
        "subject_last": range(last, last + 1),
        "first_after": range(last + 1, min(last + 2, prompt.last)),
        "further": range(last + 2, prompt.last),
        "last": range(prompt.last, prompt.last + 1),
    }
    return {f"{name} {i}": (token,) for name in NAMES for i, token in enumerate(tokens[name])}


def _row(cfg: CausalTraceConfig, what: Restored, layer: int, place: str, clean: Patch, n_layers: int) -> Row:
    window = window_around(layer, cfg.window, n_layers)
    component, layers = ("resid_post", [layer]) if what is Restored.layer_resid else (what.value, list(window))
    name = place.partition(" ")[0]
    return Row(
        key={"layer": layer, "position": name, "granularity": what.value},
        intervention=Intervention(tuple(Edit(component, at, None, clean, place) for at in layers)),
        described=InterventionSpec(
            what.value,
            component,
            clean.name,
            name,
            "clean_to_corrupt",
            "single" if what is Restored.layer_resid else f"window of {cfg.window} layers",
        ),
    )


def _over_draws(draws: "Sequence[Measured]") -> "Measured":
    """Means over the draws, for the examples that all of them finished; predictions are those of the first draw."""
    import numpy as np

    from tiny_ablation.run.measure import aligned

    first, *_ = each = aligned(draws)
    return replace(
        first,
        values={name: np.mean([m.values[name] for m in each], axis=0) for name in first.values},
        baseline={name: np.mean([m.baseline[name] for m in each], axis=0) for name in first.baseline},
    )


def _over_tokens(measured: "Measured") -> "Measured":
    """One row a layer and name instead of one a token."""
    import numpy as np

    arm, tokens = measured.arm, defaultdict(list)
    for index, row in enumerate(arm.rows):
        tokens[tuple(row.key.values())].append(index)
    has = np.array([_has(arm, row, measured.examples) for row in arm.rows])
    groups = list(tokens.values())
    return replace(
        measured,
        arm=replace(arm, rows=[arm.rows[group[0]] for group in groups]),
        values={
            name: np.array([_mean_where(values[group], has[group]) for group in groups])
            for name, values in measured.values.items()
        },
        top1=np.array([measured.top1[group[0]] for group in groups]),
        draws={},
    )


def _has(arm: Arm, row: Row, examples: "np.ndarray") -> list[bool]:
    """Whether each example has the token that the row restores."""
    assert row.intervention is not None
    place = str(row.intervention.edits[0].positions)
    return [bool(arm.prompts[i].marks[place]) for i in examples]


def _mean_where(values: "np.ndarray", has: "np.ndarray") -> "np.ndarray":
    """(n_examples,): the mean over rows that an example has; NaN where it has none."""
    import numpy as np

    n = has.sum(0)
    return np.where(n > 0, np.where(has, values, 0).sum(0) / np.maximum(n, 1), np.nan)
