"""Say what a run or a sweep will cost before it starts, in forwards, time and memory, and which effects it can find.

  tiny-ablate plan ablation=heads_zero dataset=ioi
  tiny-ablate plan -m dataset=facts,ioi seed=0,1,2
  tiny-ablate plan dataset=facts --effect 0.8 --real 10      how many groups find ten such effects
  tiny-ablate plan dataset=facts --pilot outputs/pilot       which effects of a finished run it will find
  tiny-ablate plan dataset=facts --json

Loads the model, tokenises and lays everything out as the run would, measures how fast this machine multiplies matrices (a
second), and writes nothing. The time is an estimate for one process on a machine that does nothing else. Effect sizes are means
over standard deviations of the groups' mean effects: stated, or taken from a finished run and shrunken as its tables say. An
effect is found where q is at most 0.05 over all sites of the run, in four of five samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.commands._compose import compose, compose_sweep, is_sweep
from tiny_ablation.commands._console import add_overrides, parser, say, say_json, table
from tiny_ablation.commands._pilot import Pilot, pilot_lines, read_pilot
from tiny_ablation.errors import ConfigError

if TYPE_CHECKING:
    from tiny_ablation.run.spec import RunSpec

# Measured on the default model: a run against its matrix products at the peak rate of PyTorch's own, which the engine's beat.
_OVERHEAD = 0.85
_rates: dict[str, float] = {}  # of matrix products, by the model's name
_START_UP = 10.0  # seconds: imports, the model, verify, figures


@dataclass(frozen=True)
class Estimate:
    """What one run costs."""

    condition: str
    seed: int
    examples: int  # prompts that run, over all arms
    interventions: int  # what is done to each
    tokens: int  # of the prompts
    nodes: int  # tokens that are computed, shared prefixes once
    forwards: int  # whole forward passes of one prompt
    operations: float  # floating-point operations
    impact_rows: int  # of the impact table, for all metrics
    example_rows: int  # of the per-example table
    seconds: float
    memory_mb: int  # estimated, of the process
    groups: int  # of examples
    tests: int  # of a metric, corrected together
    # the smallest effect size that is found where one site has it, and where `real` have; None with one group
    finds: dict[str, float | None]
    # how many groups find `effect` where one site has it, where `real` have, and how many show that a site without effect is
    # within it; empty where no effect was named
    groups_needed: dict[str, int | None]
    # what would be found of the effects of a finished run (`_pilot.Pilot.plan`); None where none was named
    pilot: dict[str, Any] | None
    # tokens that are written at most (`metrics.span=text`), and whether each takes a pass over the whole text
    written: dict[str, Any]
    # what the run makes before it measures, in words, and the seconds of `seconds` that this takes; empty where there is no
    # such thing
    first: dict[str, float]


def main(args: list[str]) -> int:
    """Print the estimates."""
    flags = parser("plan", __doc__)
    add_overrides(flags)
    flags.add_argument("-m", "--multirun", action="store_true", help="plan a sweep")
    flags.add_argument("--effect", type=float, metavar="D", help="say how many groups of examples find effects of this size")
    flags.add_argument("--real", type=int, default=10, metavar="N", help="how many sites have such an effect (default: 10)")
    flags.add_argument(
        "--pilot", type=Path, metavar="DIR", help="take effects from a finished run: which of them will be found"
    )
    flags.add_argument("--json", action="store_true", help="print the estimates as JSON")
    given = flags.parse_intermixed_args(args)
    if given.real < 1 or (given.effect is not None and not given.effect > 0):
        raise ConfigError(f"plan: --effect={given.effect} and --real={given.real} must be above 0")
    pilot = read_pilot(given.pilot) if given.pilot else None
    from tiny_ablation.ablations.registry import run_spec

    sweep = given.multirun or is_sweep(given.overrides)
    specs = compose_sweep(given.overrides).specs if sweep else [run_spec(compose(given.overrides))]
    found = [_estimate(spec, given.effect, given.real, pilot) for spec in specs]
    if given.json:
        say_json([asdict(each) for each in found])
    else:
        say(*_lines(found), *_power_lines(found, given.effect))
    return 0


def _estimate(spec: "RunSpec", effect: float | None, real: int, pilot: Pilot | None) -> Estimate:
    import psutil

    from tiny_ablation.config.schema import VerifyMode
    from tiny_ablation.engine.cost import cost, peak_rate
    from tiny_ablation.run.measure import executors
    from tiny_ablation.run.prepare import prepare_run

    prepared = prepare_run(spec, outline=True)
    costs = [cost(executor) for executor in executors(prepared)]
    in_table = [arm for arm in prepared.arms if arm.in_table]
    tests = sum(row.intervention is not None for arm in in_table for row in arm.rows)
    name = prepared.network.model.name
    if name not in _rates:
        _rates[name] = peak_rate(prepared.network)
    rate = _rates[name]
    # Further copies of the weights: in the order that the products want, and in double precision to verify.
    weights = sum(p.nbytes for network in prepared.networks for p in network.hf.parameters())
    copies = weights if spec.settings.root.verify.mode is VerifyMode.off else 3 * weights
    first = {arm.left_out.what: round(arm.left_out.operations / rate * _OVERHEAD, 1) for arm in prepared.arms if arm.left_out}
    groups = len({tokens.example.group for tokens in prepared.tokens})
    finds, needed = _power(groups, tests, effect, min(real, tests))
    total = {
        name: sum(getattr(each, name) for each in costs) for name in ("examples", "tokens", "nodes", "forwards", "operations")
    }
    return Estimate(
        condition=spec.condition,
        seed=spec.settings.root.seed,
        interventions=sum(each.interventions for each in costs),
        impact_rows=sum(len(arm.rows) for arm in in_table) * len(prepared.metrics),
        example_rows=sum(len(arm.rows) * len(arm.prompts) for arm in prepared.arms),
        seconds=round(total["operations"] / rate * _OVERHEAD + sum(first.values()) + _START_UP, 1),
        memory_mb=round((psutil.Process().memory_info().rss + max(each.memory for each in costs) + copies) / 2**20),
        groups=groups,
        tests=tests,
        finds=finds,
        groups_needed=needed,
        pilot=pilot.plan(groups, tests) if pilot else None,
        written={"tokens": sum(each.written for each in costs), "anew": not all(each.kept for each in costs)},
        first=first,
        **{**total, "forwards": round(total["forwards"])},
    )


def _power(groups: int, tests: int, effect: float | None, real: int) -> tuple[dict[str, float | None], dict[str, int | None]]:
    """`finds` and `groups_needed` of `Estimate`."""
    from tiny_ablation.stats.power import groups_for_equivalence, groups_needed, resolvable

    several = dict.fromkeys((1, max(1, real)))
    finds = {str(n): resolvable(groups, tests, n) if tests else None for n in several}
    needed: dict[str, int | None] = {}
    if effect is not None and tests:
        needed = {str(n): groups_needed(effect, tests, n) for n in several} | {"no effect": groups_for_equivalence(effect)}
    return finds, needed


def _lines(found: Sequence[Estimate]) -> Iterator[str]:
    head = ["run", "examples", "interventions", "tokens", "computed", "forwards", "rows", "time", "memory"]
    rows = [head]
    for each in found:
        numbers = (each.examples, each.interventions, each.tokens, each.nodes, each.forwards, each.impact_rows)
        label, memory = f"{each.condition}, seed {each.seed}", f"{each.memory_mb:,} MB"
        rows.append([label, *(f"{n:,}" for n in numbers), _time(each.seconds), memory])
    yield from table(rows)
    yield ""
    seconds, operations = sum(each.seconds for each in found), sum(each.operations for each in found)
    effects, examples = sum(each.impact_rows for each in found), sum(each.example_rows for each in found)
    runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
    yield f"  {runs}, about {_time(seconds)} one after the other in one process"
    yield f"  {operations:.2g} floating-point operations; {effects:,} rows of effects, from {examples:,} per example"
    yield "  computed: tokens after shared prefixes are counted once"
    yield "  forwards: whole passes of one prompt, skipped blocks left out"
    if written := sum(each.written["tokens"] for each in found):
        anew = any(each.written["anew"] for each in found)
        how = "each with a pass over the whole text" if anew else "with keys and values of earlier tokens kept"
        yield f"  up to {written:,} tokens are written (interventions x examples x generate.max_new_tokens), {how}"
    for what, taken in {what: taken for each in found for what, taken in each.first.items()}.items():
        yield f"  before measuring, {what}: about {_time(taken)} of the time"


def _power_lines(found: Sequence[Estimate], effect: float | None) -> Iterator[str]:
    """What can be found, once for all runs that have as many groups and tests."""
    for each in {(e.groups, e.tests): e for e in found if e.tests}.values():
        yield ""
        yield f"  {each.groups} groups of examples, {each.tests:,} tests corrected together; found in 4 of 5 samples:"
        for n, size in each.finds.items():
            told = "nothing: there is one group" if size is None else f"effects of {size:.2f} and more"
            yield f"    {told}, where {_sites(n)}"
        for n, groups in each.groups_needed.items():
            told = "more than 100,000 groups" if groups is None else f"{groups} groups"
            what = f"find {effect:g}, where {_sites(n)}"
            if n == "no effect":
                what = f"show that a site without effect is within {effect:g}"
            yield f"    {told} {what}"
        yield "    sizes: mean effect over the standard deviation of the groups' mean effects"
        if each.pilot:
            yield from pilot_lines(each.pilot, each.groups, each.tests)


def _sites(n: str) -> str:
    return "one site has one" if n == "1" else f"{n} sites have one"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
