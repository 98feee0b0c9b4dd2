"""Do intervals cover, and are discoveries true, as often as is promised? Simulated effects through the tool's own tables.

Nothing is run through a model: the effects of 32 heads are drawn from known distributions and handed to the code that makes
every run's tables, under the default settings of `stats`. Effects have a part that all examples of a group share (a wording
that works or not), a part of each example, and a part that all heads share (some prompts are easy for all of them).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.config.seeds import generator

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

MODEL = "tracr_dyck"  # only for its 32 heads
COVERAGE = (0.93, 0.97)
FALSE_DISCOVERIES, LEVEL = 0.06, 0.05
EFFECT = 1.0  # of the true effects in the mixed case, where the deviation of a group's part is one


@dataclass(frozen=True)
class Setting:
    """How effects are drawn.

    Attributes:
        text: in words.
        n_groups: groups of examples.
        sizes: how many examples they have, in turn.
        shape: of the parts of groups and examples: `normal`, `lognormal` (skewness 1.75) or `exponential` (skewness 2).
        n_draws: simulated families of tests.
        n_true: so many heads have an effect.
        covers: whether intervals must cover as often as they say; where not, it is only told.
        discovers: whether discoveries must be true as often as they say, likewise.
    """

    text: str
    n_groups: int
    sizes: tuple[int, ...]
    shape: str
    n_draws: int
    n_true: int = 0
    covers: bool = True
    discovers: bool = True


SETTINGS = (
    Setting("30 groups of 4, normal", 30, (4,), "normal", 350),
    Setting("30 groups of 1 to 7, normal", 30, (1, 4, 7), "normal", 350),
    Setting("30 groups of 4, 8 of 32 heads have an effect", 30, (4,), "normal", 140, n_true=8),
    Setting("40 groups of 1 to 7, skewed", 40, (1, 4, 7), "lognormal", 140, discovers=False),
    Setting(
        "hard: 12 groups of 1 to 7, very skewed",
        12,
        (1, 4, 7),
        "exponential",
        140,
        covers=False,
        discovers=False,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a setting gave.

    Attributes:
        setting: how effects were drawn.
        coverage: the share of intervals that hold the true mean.
        false: for each family the share of false ones among its discoveries, 0 where it has none.
        power: the share of true effects that were discovered; NaN where there are none.
    """

    setting: Setting
    coverage: float
    false: "np.ndarray"
    power: float


def n_draws() -> int:
    """How many families are simulated in all."""
    return sum(setting.n_draws for setting in SETTINGS)


def check_statistics(shop: Workshop) -> list[Check]:
    """Coverage of 95 % intervals, and false discoveries at q <= .05 with and without true effects."""
    prepared = shop.prepare(
        MODEL,
        "ablation=heads_zero",
        "ablation.scales=[0.0]",
        "metrics.names=[logit_diff,prob_diff,p_drop,entropy]",
    )
    outcomes = [_outcome(shop, prepared, setting) for setting in SETTINGS]
    return [*map(_coverage, outcomes), *_discoveries(outcomes)]


def _outcome(shop: Workshop, prepared: "PreparedRun", setting: Setting) -> Outcome:
    import numpy as np

    hits, false, power = [], [], []
    for table, mean in _simulated(shop, prepared, setting):
        hits.append(((table["ci_low"] <= mean) & (mean <= table["ci_high"])).mean())
        found = (table["q_value"] <= LEVEL).to_numpy()
        false.append(found[mean == 0].sum() / max(1, found.sum()))
        power.append(found[mean != 0].mean() if setting.n_true else np.nan)
    return Outcome(setting, float(np.mean(hits)), np.array(false), float(np.mean(power)))


def _coverage(outcome: Outcome) -> Check:
    low, high = COVERAGE
    share, barred = outcome.coverage, outcome.setting.covers
    return Check(
        "Coverage of 95 % intervals", outcome.setting.text, f"{low:.2f} to {high:.2f}" if barred else "", share,
        low <= share <= high if barred else None, f"{share:.3f}",
    )  # fmt: skip


def _discoveries(outcomes: Sequence[Outcome]) -> Iterator[Check]:
    """The families without any effect whose null is the test's own count together; the others each for itself."""
    import numpy as np

    null = [o for o in outcomes if o.setting.discovers and not o.setting.n_true]
    yield _rate("no head has an effect, 30 groups, normal", np.concatenate([o.false for o in null]), True)
    for o in outcomes:
        if o not in null:
            more = f"; {o.power:.0%} of true ones found" if o.setting.n_true else ""
            yield _rate(o.setting.text, o.false, o.setting.discovers, more)


def _rate(subject: str, false: "np.ndarray", barred: bool, more: str = "") -> Check:
    rate = float(false.mean())
    bar, ok = (f"at most {FALSE_DISCOVERIES}", rate <= FALSE_DISCOVERIES) if barred else ("", None)
    shown = f"{rate:.3f} in {len(false)} families{more}"
    return Check(f"False discoveries at q <= {LEVEL}", subject, bar, rate, ok, shown)


def _simulated(
    shop: Workshop, prepared: "PreparedRun", setting: Setting
) -> "Iterator[tuple[pd.DataFrame, np.ndarray]]":
    """For each simulated family its rows of the impact table, and the true mean of each row.

    A run tests every metric as a family of its own, with draws of its own, so each metric of a table holds another family.
    """
    from tiny_ablation.aggregate.run_tables import run_tables

    names, n_sites = [metric.name for metric in prepared.metrics], len(prepared.arms[0].rows)
    for start in range(0, setting.n_draws, len(names)):
        drawn = [
            _effects(setting, n_sites, generator(0, "selfcheck", setting.text, start + i))
            for i in range(len(names))
        ]
        pretended = _pretend(prepared, drawn[0].groups, start)
        deltas = dict(zip(names, (each.deltas for each in drawn), strict=True))
        impact = run_tables(pretended, [_measured(pretended, deltas)]).impact
        for name, each in zip(names, drawn, strict=True):
            yield impact.loc[impact["metric"] == name, :], each.means
        shop.tick(len(names))


class _Drawn(NamedTuple):
    """Effects (n_sites, n_examples), their true means (n_sites,) and the group of each example."""

    deltas: "np.ndarray"
    means: "np.ndarray"
    groups: "np.ndarray"


def _effects(setting: Setting, n_sites: int, rng: "np.random.Generator") -> _Drawn:
    import numpy as np

    sizes = np.resize(setting.sizes, setting.n_groups)
    groups = np.repeat(np.arange(setting.n_groups), sizes)
    noise = _SHAPES[setting.shape]
    of_group, shared = noise(rng, (n_sites, setting.n_groups)), noise(rng, (1, setting.n_groups))
    of_example = noise(rng, (n_sites, len(groups)))
    means = np.where(np.arange(n_sites) < setting.n_true, EFFECT, 0.0)
    # The shared part has a third of the groups' variance: effects of two heads correlate by about .3.
    return _Drawn(means[:, None] + (0.8 * of_group + 0.6 * shared)[:, groups] + of_example, means, groups)


def _lognormal(rng: "np.random.Generator", shape: tuple[int, ...]) -> Any:
    import numpy as np

    spread = 0.5
    centred = rng.lognormal(0, spread, shape) - np.exp(spread**2 / 2)
    return centred / np.sqrt((np.exp(spread**2) - 1) * np.exp(spread**2))


# Of mean 0 and variance 1.
_SHAPES: "dict[str, Callable[[Any, tuple[int, ...]], Any]]" = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": _lognormal,
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}


def _pretend(prepared: "PreparedRun", groups: "np.ndarray", seed: int) -> "PreparedRun":
    """The run with so many examples in these groups, and a seed of its own."""
    settings = prepared.spec.settings
    spec = replace(prepared.spec, settings=replace(settings, root=replace(settings.root, seed=seed)))
    example = prepared.tokens[0].example
    tokens = [
        replace(prepared.tokens[0], example=replace(example, id=str(i), group=f"g{group}"))
        for i, group in enumerate(groups.tolist())
    ]
    return replace(prepared, spec=spec, tokens=tokens)


def _measured(prepared: "PreparedRun", deltas: "dict[str, np.ndarray]") -> "Measured":
    """What the run would have measured, had its model had these effects."""
    import numpy as np

    from tiny_ablation.run.measure import Measured

    n_sites, n = next(iter(deltas.values())).shape
    tops = np.zeros((n_sites, n), dtype=np.int64)
    return Measured(prepared.arms[0], np.arange(n), deltas, dict.fromkeys(deltas, np.zeros(n)), tops, tops[0])
