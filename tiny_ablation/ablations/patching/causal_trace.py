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
from tiny_ablation.ablations.shared.replacements import patch_from
from tiny_ablation.ablations.shared.sites import chosen, window_around
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.run.plan import Arm, InterventionSpec, PlanContext, Row

if TYPE_CHECKING:
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
        """An arm a draw, and the clean run, to say what share is recovered."""
        prompt_pairs.require_mark(context.clean, "subject", "ablation=causal_trace")
        prompts, places = _with_names(context.clean)
        clean, n_layers = patch_from(prompts, prompts), context.shape.n_layers
        rows = []
        for granularity in cfg.granularities:
            what, alone = granularity.value, granularity is Restored.layer_resid
            component = "resid_post" if alone else what
            together = "single" if alone else f"window of {cfg.window} layers"
            for layer in chosen(cfg.layers, n_layers, "ablation.layers", "layers"):
                layers = [layer] if alone else window_around(layer, cfg.window, n_layers)
                for place in places:
                    name = place.partition(" ")[0]
                    key = {"layer": layer, "position": name, "granularity": what}
                    edits = tuple(Edit(component, at, None, clean, place) for at in layers)
                    described = InterventionSpec(what, component, clean.name, name, "clean_to_corrupt", together)
                    rows.append(Row(key, Intervention(edits), described))
        about = f"the clean prompt with noise of {cfg.noise:g} standard deviations on its subject, nothing restored"
        arms = []
        for draw in range(cfg.noise_draws):
            noise = noise_on(context.network, prompts, "subject", cfg.noise, context.seed, draw)
            arms.append(Arm(prompts, rows, about, run="corrupt", base_intervention=noise))
        return [*arms, Arm(prompts, [], in_table=False)]

    def combine(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> "Sequence[Measured]":  # noqa: ARG002
        """Means over draws, then over the tokens of one name; NaN for examples that have none."""
        noised = [m for m in measured if m.arm.base_intervention is not None]
        rest = [m for m in measured if m.arm.base_intervention is None]
        return [_over_draws_and_tokens(noised), *rest] if noised else rest


def _with_names(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[str]]:
    """The prompts with a mark for each token by its name and number, empty where there is none, and these marks in order.

    A mark is such as `further 0`; a subject of one token is its first and its last.
    """
    named = []
    for prompt in prompts:
        first, last = min(prompt.marks["subject"]), max(prompt.marks["subject"])
        tokens = {
            "subject_first": range(first, first + 1),
            "subject_middle": range(first + 1, last),
            "subject_last": range(last, last + 1),
            "first_after": range(last + 1, min(last + 2, prompt.last)),
            "further": range(last + 2, prompt.last),
            "last": range(prompt.last, prompt.last + 1),
        }
        named.append({(name, i): (token,) for name in NAMES for i, token in enumerate(tokens[name])})
    places = sorted({place for marks in named for place in marks}, key=lambda place: (NAMES.index(place[0]), place[1]))
    out = []
    for prompt, marks in zip(prompts, named, strict=True):
        of_all = {f"{name} {i}": marks.get((name, i), ()) for name, i in places}
        out.append(replace(prompt, marks={**prompt.marks, **of_all}))
    return out, [f"{name} {i}" for name, i in places]


def _over_draws_and_tokens(draws: "Sequence[Measured]") -> "Measured":
    """Means over the draws, for the examples that all of them finished, with one row a layer and name instead of one a token.

    Predictions are those of the first draw and token. An example counts where it has a token; NaN where it has none.
    """
    import numpy as np

    from tiny_ablation.run.measure import aligned

    first, *_ = each = aligned(draws)
    rows, tokens, has = first.arm.rows, defaultdict(list), []
    for index, row in enumerate(rows):
        tokens[tuple(row.key.values())].append(index)
        place = str(row.runs[0].edits[0].positions)
        has.append([bool(first.arm.prompts[i].marks[place]) for i in first.examples])
    groups, there = list(tokens.values()), np.array(has)
    values = {}
    for name in first.values:
        mean = np.mean([m.values[name] for m in each], axis=0)
        over = []
        for group in groups:
            n = there[group].sum(0)
            over.append(np.where(n > 0, np.where(there[group], mean[group], 0).sum(0) / np.maximum(n, 1), np.nan))
        values[name] = np.array(over)
    return replace(
        first,
        arm=replace(first.arm, rows=[rows[group[0]] for group in groups]),
        values=values,
        baseline={name: np.mean([m.baseline[name] for m in each], axis=0) for name in first.baseline},
        top1=np.array([first.top1[group[0]] for group in groups]),
        draws={},
    )
