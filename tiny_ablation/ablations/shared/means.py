"""Mean ablation: which mean belongs to which token, and the replacement that puts it in.

Means are taken over examples that the run does not evaluate. `ablation.mean` says over which of their tokens:

- `overall`: one mean over all tokens of all reference prompts;
- `position`: one for each distance from the last prompt token, so that prompts of unequal length meet at the answer;
- `template`: one for each wording, over all tokens of its reference prompts;
- `template_position`: one for each wording and distance (Wang et al. 2022, section 3, for one template).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Lookup, Replacement
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Ablation, PlanContext, ReferenceSet

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.engine.means import Means

_MESSAGE_ROWS = 5
# (template, distance from the last prompt token); "" and 0 where it does not matter
MeanKey = tuple[str, int]


@dataclass
class MeanKeys(AblationConfig):
    """Keys of every kind that replaces by a mean."""

    mean: str = key(
        "overall",
        help="over all tokens, or one mean for each distance from the last token, each wording, or both",
        choices=("overall", "position", "template", "template_position"),
    )
    n_reference: int = key(256, help="at most so many examples, drawn from those that are not evaluated", least=1)


class MeanAblation(Ablation):
    """A kind whose means come from a reference set."""

    def random_components(self, cfg: MeanKeys, n_rest: int) -> tuple[str, ...]:
        """The reference set, where not all of the rest is taken."""
        return ("reference",) if n_rest > cfg.n_reference else ()


@dataclass(frozen=True, eq=False)
class MeanTable(Lookup):
    """Means over reference prompts, and the row that each evaluated token takes."""

    means: "Means"
    # for each evaluated example the row of each prompt token; a teacher-forced answer takes that of the last
    rows: Sequence[Sequence[int]]

    def row(self, example: int, position: int) -> int:
        """See `Lookup.row`."""
        mine = self.rows[example]
        return mine[min(position, len(mine) - 1)]

    def values(self, component: str, layer: int) -> "Tensor":
        """See `Lookup.values`."""
        return self.means.values[component, layer]


@dataclass(frozen=True, eq=False)
class Mean(Replacement):
    """The mean of a reference set; its name is `mean`, or `mean_position` and so on where it is not over everything."""

    lookup: Lookup | None = None
    name: str = "mean"

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        assert source is not None
        return source.to(current)


def plan_means(cfg: Any, context: PlanContext, places: Sequence[tuple[str, int]]) -> tuple[Mean, dict[str, Any]]:
    """The replacement that a config asks for, and notes on its reference set for `summary.json`.

    Args:
        cfg: with the keys of `MeanKeys`, and `positions`.
        context: the run.
        places: every (component, layer) that is replaced.

    Raises:
        ConfigError: there is no reference set, or a token has no mean in it.
    """
    if context.full and cfg.positions == "all" and "position" in cfg.mean:
        raise ConfigError(
            f"ablation.mean={cfg.mean} has means for the tokens of a prompt, not for those of an answer, which "
            "metrics.span=full and text also touch; use ablation.positions=last, ablation.mean=overall, or metrics.span=first"
        )
    from tiny_ablation.engine.means import Means  # imports torch

    reference = context.reference(cfg.n_reference)
    keys = [_keys(cfg.mean, p, t) for p, t in zip(reference.prompts, reference.templates, strict=True)]
    counts = Counter(key for of_prompt in keys for key in of_prompt)
    row_of = {key: row for row, key in enumerate(sorted(counts))}
    means = Means(context.network, reference.prompts, [[row_of[k] for k in of] for of in keys], len(row_of), places)
    rows = _rows(cfg, context, row_of, reference)
    used = {row for of_example in rows for row in of_example}
    sizes = [counts[key] for key, row in row_of.items() if row in used]
    notes = {
        "mean": cfg.mean,
        **({"aligned": "at the last prompt token"} if "position" in cfg.mean else {}),
        **reference.composition,
        "n_means": len(sizes),
        "tokens_per_mean": {"min": min(sizes), "max": max(sizes)},
    }
    name = "mean" if cfg.mean == "overall" else f"mean_{cfg.mean}"
    return Mean(MeanTable(means, rows), name), {"reference": notes}


def _keys(by: str, prompt: Prompt, template: str) -> list[MeanKey]:
    """The key of each token."""
    of_prompt = template if "template" in by else ""
    return [(of_prompt, prompt.last - position if "position" in by else 0) for position in range(len(prompt.ids))]


def _rows(cfg: Any, context: PlanContext, row_of: dict[MeanKey, int], reference: ReferenceSet) -> list[list[int]]:
    """For each evaluated example the row of each token; 0 where the edits do not reach, so that prefixes stay shared."""
    out, missing = [], []
    for prompt, template in zip(context.clean, context.templates, strict=True):
        keys = _keys(cfg.mean, prompt, template)
        touched = [prompt.covers(cfg.positions, position) for position in range(len(keys))]
        lacking = [key for key, touch in zip(keys, touched, strict=True) if touch and key not in row_of]
        if lacking and "template" in cfg.mean and template not in reference.templates:
            missing.append(f"{prompt.name} (template {template!r})")
        elif lacking:
            missing.append(f"{prompt.name} ({len(prompt.ids)} tokens, none {lacking[0][1]} before the last)")
        out.append([row_of.get(key, 0) if touch else 0 for key, touch in zip(keys, touched, strict=True)])
    if not missing:
        return out
    more = f" and {len(missing) - _MESSAGE_ROWS} more" if len(missing) > _MESSAGE_ROWS else ""
    advice = "evaluate fewer examples (dataset.n_examples), or take ablation.mean=overall"
    if len(reference.prompts) < reference.available:
        advice = f"raise ablation.n_reference={cfg.n_reference}, {advice}"
    raise ConfigError(
        f"ablation.mean={cfg.mean}: the reference set of {len(reference.prompts)} examples has no tokens to take the mean over "
        f"for {len(missing)} examples: {', '.join(missing[:_MESSAGE_ROWS])}{more}; {advice}"
    )
