"""Do the tables of a run hold what they promise? Simulated effects through the code that makes every run's tables.

Nothing is run through a model: effects whose truth is known are handed to the tool under the default settings of `stats`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.commands._selfcheck.truths import Drawn, Truth, first, small
from tiny_ablation.config.seeds import generator
from tiny_ablation.stats.fdr import LEVEL

if TYPE_CHECKING:
    import pandas as pd

    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

MODEL = "tracr_dyck"  # only for a run that could start
SIGNED, RATE = ("logit_diff", "prob_diff", "p_drop", "entropy"), ("acc_flip_rate",)
COVERAGE, SKEWED = (0.93, 0.97), (0.91, 0.97)
RATES, TOLD = (0.95, 1.0), None
MOST, STRICT = 0.06, 0.005


@dataclass(frozen=True)
class Intervals:
    """Single sites: their 95 % intervals, and their p-values where there is no effect."""

    text: str  # in words
    truth: Truth  # how effects are drawn
    covers: tuple[float, float]  # the least and the largest share of intervals that may hold the truth
    tests: bool = True  # whether p-values of at most .05 are counted as well
    level: float | None = MOST  # the largest share of them that may be found; None: it is told without a bar
    strict: float | None = None  # the same of p-values of at most .005, where these are counted
    n_sites: int = 100  # heads a family
    n_families: int = 24  # how many


@dataclass(frozen=True)
class Families:
    """Whole families of tests: what is found at q <= .05."""

    text: str  # in words
    truth: Truth  # how effects are drawn
    fdr: str = "bh"  # the correction
    # the largest share of false discoveries (where nothing has an effect: of families with any); None where it is told
    most: float | None = MOST
    power: float | None = None  # the least share of true effects that must be found; None where it is told
    n_sites: int = 270  # heads a family
    n_families: int = 100  # how many


UNEQUAL, HALF = (1, 4, 7), lambda n: (4 * (n - 1), *[4] * (n - 1))
INTERVALS = (
    *(Intervals(f"{n} groups of 4, normal", Truth(n), COVERAGE) for n in (8, 12, 20, 50)),
    Intervals("200 groups of 4, normal", Truth(200), COVERAGE, n_sites=50),
    *(Intervals(f"{n} groups of 1 to 7, normal", Truth(n, UNEQUAL), COVERAGE) for n in (8, 20)),
    Intervals("200 groups of 1 to 7, normal", Truth(200, UNEQUAL), COVERAGE, n_sites=50),
    *(Intervals(f"{n} groups, one with half of the examples", Truth(n, HALF(n)), COVERAGE) for n in (8, 12, 20)),
    Intervals("200 groups, one with half of the examples", Truth(200, HALF(200)), COVERAGE, n_sites=50),
    *(Intervals(f"{n} groups of 4, log-normal", Truth(n, shape="lognormal", of_example=0), SKEWED) for n in (8, 12, 50)),
    *(
        Intervals(
            f"{n} groups of 4, log-normal with skewness {skewness}",
            Truth(n, shape=shape, of_example=0),
            SKEWED,
            level=None,
            n_families=100,
        )
        for skewness, shape in (("3.3", "skewed"), ("6", "heavy"))
        for n in (12, 50)
    ),
    *(
        Intervals(f"{n} groups of 4, exponential", Truth(n, shape="exponential", of_example=0), SKEWED, strict=strict)
        for n, strict in ((8, None), (12, 0.012), (50, None))
    ),
    *(
        Intervals(f"rate {p:g}, {n} groups of 4", Truth(n, shape="rate", means=p), RATES, tests=False)
        for p, n in ((0.01, 12), (0.03, 12), (0.03, 20), (0.03, 50), (0.3, 8), (0.3, 200))
    ),
)
SKEW = Truth(20, shape="exponential", shared=0.36, of_example=0.0)
TWENTY = "20 of {:,} heads have an effect of {} standard deviations, {} groups"
FAMILIES = (
    Families("no effect, 12 groups, normal, heads correlate .36", Truth(12, shared=0.36)),
    Families("no effect, 1,440 heads, 12 groups, normal", Truth(12, shared=0.36), n_sites=1440, n_families=16),
    Families("no effect, 20 groups, exponential, heads correlate .36; false discovery rate", SKEW, most=None),
    Families("the same; false discovery rate under any dependence", SKEW, fdr="by"),
    Families("the same; chance of any false discovery", SKEW, fdr="maxt"),
    *(
        Families(
            TWENTY.format(heads, d, n),
            Truth(n, (1,), means=first(20, d), of_example=0.0),
            power=power,
            n_sites=heads,
            n_families=40,
        )
        for heads, d, n, power in ((270, 2.0, 10, TOLD), (270, 2.0, 12, 0.95), (270, 2.5, 12, 0.95), (1440, 2.5, 12, TOLD))
    ),
)
STRONGEST, N_STRONGEST = (12, 30, 60), 20  # numbers of groups, of so many families each
N_HEADS, N_EXAMPLES, SECONDS = 270, 300, 10.0  # how long statistics may take


def n_families() -> int:
    """How many families are simulated in all."""
    return sum(each.n_families for each in (*INTERVALS, *FAMILIES)) + len(STRONGEST) * N_STRONGEST


def check_tables(shop: Workshop) -> list[Check]:
    """Every row about the tables of a run."""
    prepared = shop.prepare(
        MODEL, "ablation=heads_zero", "ablation.scales=[0.0]", f"metrics.names=[{','.join((*SIGNED, *RATE))}]"
    )
    rows: list[Check] = []
    for setting in INTERVALS:
        rows += _intervals(shop, prepared, setting)
    for family in FAMILIES:
        rows += _discoveries(shop, prepared, family)
    for n_groups in STRONGEST:
        rows += _strongest(shop, prepared, n_groups)
    return rows


def check_speed(shop: Workshop) -> list[Check]:
    """How long the impact table of a large run takes, every example a group of its own, which is the most work."""
    from tiny_ablation.run.tables import impact_table

    prepared = shop.prepare(MODEL, "ablation=heads_zero", "ablation.scales=[0.0]")
    names = [metric.name for metric in prepared.metrics]
    drawn = Truth(N_EXAMPLES, (1,), of_example=0.0).draw(generator(0, "selfcheck", "speed"), N_HEADS)
    pretended = pretend(prepared, drawn.groups, 0, names)
    found = [measured(pretended, names, [drawn] * len(names))]
    start = time.perf_counter()
    impact_table(pretended, found)
    seconds = round(time.perf_counter() - start, 2)
    subject = f"{N_HEADS} heads, {N_EXAMPLES} groups, {len(names)} metrics"
    return [Check("Statistics of a run", subject, f"below {SECONDS:.0f} s", seconds, seconds < SECONDS, f"{seconds:.1f} s")]


def share(name: str, subject: str, value: float, low: float | None, high: float | None, more: str = "") -> Check:
    """A check that a share lies between two bounds; a bound may be missing, and without any it is only told."""
    if low is None:
        bar = "" if high is None else f"at most {high:g}"
    else:
        bar = f"at least {low:g}" if high in (None, 1.0) else f"{low:g} to {high:g}"
    ok = None if not bar else (low is None or value >= low) and (high is None or value <= high)
    return Check(name, subject, bar, value, ok, f"{value:.3f}{more}")


def _intervals(shop: Workshop, prepared: "PreparedRun", setting: Intervals) -> Iterator[Check]:
    hits, tests = [], []
    for table, mean in _tables(shop, prepared, setting.text, setting.truth, setting.n_sites, setting.n_families):
        hits.append(((table["ci_low"] <= mean) & (mean <= table["ci_high"])).mean())
        tests.append(table["p_value"])

    def found(level: float) -> float:
        return float(np.mean([(p <= level).mean() for p in tests]))

    yield share("Coverage of 95 % intervals", setting.text, float(np.mean(hits)), *setting.covers)
    if setting.tests:
        yield share(f"p <= {LEVEL} without an effect", setting.text, found(LEVEL), None, setting.level)
    if setting.strict:
        yield share(f"p <= {STRICT} without an effect", setting.text, found(STRICT), None, setting.strict)


def _discoveries(shop: Workshop, prepared: "PreparedRun", setting: Families) -> Iterator[Check]:
    false, power = [], []
    for table, mean in _tables(
        shop, prepared, setting.text, setting.truth, setting.n_sites, setting.n_families, fdr=setting.fdr
    ):
        found = (table["q_value"] <= LEVEL).to_numpy()
        false.append(found[mean == 0].sum() / max(1, found.sum()))
        power.append(found[mean != 0].mean() if (mean != 0).any() else np.nan)
    name = f"False discoveries at q <= {LEVEL}"
    yield share(name, setting.text, float(np.mean(false)), None, setting.most, f" in {len(false)} families")
    if not np.isnan(power).all():
        yield share("Power at q <= 0.05", setting.text, float(np.mean(power)), setting.power, None)


def _strongest(shop: Workshop, prepared: "PreparedRun", n_groups: int) -> Iterator[Check]:
    """The ten strongest of 270 heads with small effects."""
    truth = Truth(n_groups, (1,), means=small(0.25), of_example=0.0)
    text = f"strongest ten of 270, {n_groups} groups"
    hits, usual, sizes = [], [], []
    for table, mean in _tables(shop, prepared, text, truth, 270, N_STRONGEST):
        top = np.argsort(-table["delta"].abs().to_numpy())[:10]
        rows, real = table.iloc[top], mean[top]
        hits.append(((rows["selected_low"] <= real) & (real <= rows["selected_high"])).mean())
        usual.append(((rows["ci_low"] <= real) & (real <= rows["ci_high"])).mean())
        sign = np.sign(rows["delta"].to_numpy())
        sizes.append([(sign * each).sum() for each in (rows["shrunken"], rows["delta"], real)])
    shown, raw, real = np.sum(sizes, axis=0)
    more = f" (usual intervals {np.mean(usual):.2f})"
    yield share("Coverage of intervals that allow for the choice", text, float(np.mean(hits)), 0.95, None, more)
    more = f" (raw {raw / real:.2f})"
    yield share("Shrunken size over true size", text, float(shown / real), 0.667, 1.5, more)


def _tables(
    shop: Workshop, prepared: "PreparedRun", text: str, truth: Truth, n_sites: int, n_families: int, fdr: str = "bh"
) -> "Iterator[tuple[pd.DataFrame, np.ndarray]]":
    """For each simulated family its rows of the impact table, and the true mean of each row.

    A run tests every metric as a family of its own, with draws of its own, so each metric of a table holds another family.
    """
    from tiny_ablation.run.tables import impact_table

    names = RATE if truth.shape == "rate" else SIGNED
    for start in range(0, n_families * shop.times, len(names)):
        drawn = [truth.draw(generator(0, "selfcheck", text, start + i), n_sites) for i in range(len(names))]
        pretended = pretend(prepared, drawn[0].groups, start, names, fdr)
        impact = impact_table(pretended, [measured(pretended, names, drawn)]).impact
        for name, each in zip(names, drawn, strict=True):
            yield impact.loc[impact["metric"] == name, :], each.means
        shop.tick(len(names))


def pretend(prepared: "PreparedRun", groups: np.ndarray, seed: int, metrics: Sequence[str], fdr: str = "bh") -> "PreparedRun":
    """The run with so many examples in these groups, these metrics, a seed and a correction of its own."""
    from tiny_ablation.config.schema import Fdr

    settings = prepared.spec.settings
    root = replace(settings.root, seed=seed, stats=replace(settings.root.stats, fdr=Fdr(fdr)))
    example = prepared.tokens[0].example
    tokens = [
        replace(prepared.tokens[0], example=replace(example, id=str(i), group=f"g{group}"))
        for i, group in enumerate(groups.tolist())
    ]
    return replace(
        prepared,
        spec=replace(prepared.spec, settings=replace(settings, root=root)),
        tokens=tokens,
        metrics=[m for name in metrics for m in prepared.metrics if m.name == name],
    )


def measured(prepared: "PreparedRun", names: Sequence[str], drawn: Sequence[Drawn]) -> "Measured":
    """What the run would have measured, had its model had these effects."""
    from tiny_ablation.run.measure import Measured

    n_sites, n = drawn[0].deltas.shape
    row = prepared.arms[0].rows[0]
    rows = [replace(row, key={"layer": i // 30, "head": i % 30, "scale": 0.0}) for i in range(n_sites)]
    values: dict[str, Any] = {name: each.deltas for name, each in zip(names, drawn, strict=True)}
    tops = np.zeros((n_sites, n), dtype=np.int64)
    return Measured(
        replace(prepared.arms[0], rows=rows),
        np.arange(n),
        [t.example.group for t in prepared.tokens],
        values,
        dict.fromkeys(names, np.zeros(n)),
        tops,
        tops[0],
    )


@dataclass(frozen=True)
class Trial:
    """What is simulated many times."""

    name: str  # of the check
    text: str  # in words
    # from a run that could start and a generator, what is counted: a share, or whether something was found
    once: "Callable[[PreparedRun, np.random.Generator], float]"
    low: float | None = None  # the least mean; None for no such bar
    high: float | None = MOST  # the largest; None for no such bar
    n: int = 100  # how many times


def check_trials(shop: Workshop, trials: Sequence[Trial]) -> list[Check]:
    """A row for each."""
    prepared = shop.prepare(MODEL, "ablation=heads_zero", "ablation.scales=[0.0]")
    rows = []
    for trial in trials:
        found = []
        for i in range(trial.n * shop.times):
            found.append(trial.once(prepared, generator(0, "selfcheck", trial.name, trial.text, i)))
            shop.tick(1)
        rows.append(share(trial.name, trial.text, float(np.mean(found)), trial.low, trial.high, f" in {len(found):,}"))
    return rows
