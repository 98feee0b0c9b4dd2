"""Does the tool find circuits that are known? Runs it on such models and scores what its tables say.

Everything between the overrides and the tables is what a run does: compose, prepare, measure, combine, statistics.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.commands._compose import compose
from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.models.labels import head_label
from tiny_ablation.models.sources import planted, tracr
from tiny_ablation.models.sources.truth import Head, Truth

if TYPE_CHECKING:
    from pandas import DataFrame

    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.tables import RunTables

METRICS = ("logit_diff", "p_drop", "kl_div")
KINDS = {
    "zero": ("ablation=heads_zero", "ablation.scales=[0.0]"),
    "mean": ("ablation=heads_mean",),
    "resample": ("ablation=heads_resample", "ablation.unmatched=skip"),
}
N_EXAMPLES = 60
GREEDY = 12  # heads that the smallest circuit is searched among
PAIR_MODEL = "induction_pair"
SINGLE, BOTH = (0.25, 0.5)  # of the target's probability: what a head of the redundant pair may cost, what both must


@dataclass(frozen=True)
class Run:
    """One run of the tool, as far as its tables."""

    prepared: "PreparedRun"  # what ran
    tables: "RunTables"  # what came out
    examples: "DataFrame"  # the same, example by example


@dataclass
class Workshop:
    """Where runs are made."""

    directory: Path  # for finished batches and prompts
    machine: Sequence[str] = ()  # overrides of `device`
    times: int = 1  # how many times as much is simulated
    tick: Callable[[int], None] = field(default=lambda _n: None)  # called with the number of runs that were finished

    def prepare(self, model: str, *overrides: str) -> "PreparedRun":
        """A run of a model that could start."""
        from tiny_ablation.ablations.registry import run_spec
        from tiny_ablation.run.prepare import prepare_run

        dataset = ["dataset=induction_tokens"]
        if model.startswith("tracr_"):
            path = write_prompts(model, self.directory)
            dataset = ["dataset=file", f"dataset.path={json.dumps(str(path))}", "dataset.allow_answer_in_prompt=true"]
        keys = [f"dataset.n_examples={N_EXAMPLES}", f"metrics.names=[{','.join(METRICS)}]", "tracking=off"]
        return prepare_run(run_spec(compose([f"model={model}", *dataset, *keys, *overrides, *self.machine])))

    def run(self, model: str, *overrides: str) -> Run:
        """A run of a model."""
        from tiny_ablation.run.measure import Stopped, executors, measure
        from tiny_ablation.run.tables import example_table, run_tables
        from tiny_ablation.store.rundir import RunDir

        prepared = self.prepare(model, *overrides)
        rundir = RunDir(self.directory / prepared.identity.run_id)
        try:
            with rundir.lock():
                measured = measure(prepared, rundir, executors(prepared), lambda _n: None)
        except Stopped:
            raise KeyboardInterrupt from None
        self.tick(1)
        combined = prepared.spec.ablation.combine(prepared, measured)
        return Run(prepared, run_tables(prepared, combined), example_table(prepared, combined))


def models() -> list[str]:
    """The models whose single heads are live or dead by construction."""
    return ["planted", *(f"tracr_{name}" for name in tracr.names())]


def truth_of(model: ModelConfig) -> Truth:
    """The circuit of a model."""
    return (tracr if model.source is ModelSource.tracr else planted).truth(model)


def write_prompts(model: str, directory: Path) -> Path:
    """The inputs of a compiled program as a JSONL file, one prompt pair a line.

    The question is what the program answers at the last word. The corrupt prompt is the next input of that length with
    another answer, which is the foil; inputs without one are left out.
    """
    path, cases, rows = directory / f"{model}.jsonl", tracr.cases(model.removeprefix("tracr_")), []
    prompts = list(cases)
    for index, prompt in enumerate(prompts):
        answer, n = cases[prompt][-1], len(cases[prompt])
        others = [p for p in (*prompts[index:], *prompts[:index]) if len(cases[p]) == n and cases[p][-1] != answer]
        if others:
            row = {"clean": prompt, "corrupt": others[0], "target": f" {answer}", "foil": f" {cases[others[0]][-1]}"}
            rows.append(row | {"template": f"length-{n}", "group": str(index)})
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check_heads(shop: Workshop, model: str) -> list[Check]:
    """Single heads of one model, under every replacement."""
    runs = {kind: shop.run(model, *overrides) for kind, overrides in KINDS.items()}
    truth = truth_of(runs["zero"].prepared.spec.settings.root.model)
    # A donor has as many tokens: what is the same for all prompts of a length cannot be missed.
    varying = [head for head in truth.needed if head not in truth.constant]
    live = {kind: varying if kind == "resample" else truth.needed for kind in runs}
    ranks = {kind: auroc(_strength(run.tables), live[kind], truth.dead) for kind, run in runs.items()}
    leaks = {}
    for kind, run in runs.items():
        dead = [row for row in run.examples.to_dict("records") if (row["layer"], row["head"]) in truth.dead]
        leaks[kind] = max(abs(row[name] - row[f"{name}_baseline"]) for row in dead for name in METRICS)
    sizes = f"{model}: {len(truth.needed)} live, {len(truth.dead)} dead"
    return [
        Check(
            "AUROC of live heads (zero, mean, resample)",
            sizes,
            "1.000",
            ranks,
            set(ranks.values()) == {1.0},
            "  ".join(f"{value:.3f}" for value in ranks.values()),
        ),
        Check(
            "Largest effect of a dead head on any example (zero, mean, resample)",
            model,
            "exactly 0",
            leaks,
            set(leaks.values()) == {0.0},
            "  ".join(f"{value:.3g}" for value in leaks.values()),
        ),
        _check_smallest(shop, model, _strength(runs["zero"].tables), truth),
    ]


def _check_smallest(shop: Workshop, model: str, strength: Mapping[Head, float], truth: Truth) -> Check:
    """The smallest circuit of a model that a greedy search finds by the ranking of its single heads."""
    file = shop.directory / f"{model}-ranking.json"
    file.write_text(json.dumps({head_label(*head): size for head, size in strength.items()}), encoding="utf-8")
    run = shop.run(
        model,
        "ablation=circuit",
        f"ablation.ranking={json.dumps(str(file))}",
        "ablation.replacement=zero",
        f"ablation.greedy={GREEDY}",
        "ablation.rankings=[signed]",
        "ablation.fractions=[0.5,1.0]",
        "ablation.members=0",
        "ablation.n_random=0",
    )
    found = run.tables.analysis.summary["circuit"]["named"]
    heads = [head for each in found for head in each["heads"].split()]
    decoys = {head_label(*head) for head in truth.dead} & {*heads}
    ok = bool(found) and not decoys and bool(found[0]["carries"])
    size = f"{len(heads)} of {len(truth.needed)} live heads, {len(decoys)} dead"
    told = f"{size}; f {found[0]['faithfulness']:.3f} on other examples" if found else "none"
    return Check(
        "Smallest circuit by greedy search",
        model,
        "carries, without a dead head",
        {"heads": heads, "f": found[0]["faithfulness"] if found else None},
        ok,
        told,
    )


def auroc(strength: Mapping[Head, float], live: Sequence[Head], dead: Sequence[Head]) -> float:
    """The chance that a live head scores higher than a dead one."""
    from tiny_ablation.stats.ranks import auroc as of

    return of([strength[head] for head in live], [strength[head] for head in dead])


def _strength(tables: "RunTables") -> dict[Head, float]:
    """|mean effect| on the primary metric of each head, as the impact table has it."""
    return {(row["layer"], row["head"]): abs(row["delta"]) for row in _rows_of(tables, METRICS[0])}


def check_pair(shop: Workshop) -> list[Check]:
    """The redundant pair: every pair of heads is cut; what the two cost together must stand out, and apart it must not."""
    heads = 'ablation.of=["0.0","0.1","1.0","1.1"]'
    run = shop.run(PAIR_MODEL, "ablation=heads_pair_zero", heads, "metrics.primary=p_drop")
    ((first, second),) = truth_of(run.prepared.spec.settings.root.model).pairs
    rows = _rows_of(run.tables, "p_drop")
    pairs = {((row["layer_a"], row["head_a"]), (row["layer_b"], row["head_b"])): row for row in rows}
    top = max(pairs, key=lambda pair: abs(pairs[pair]["interaction"]))
    mine = pairs[first, second]
    found = {"top": _names(*top), **{key: mine[key] for key in ("delta", "interaction", "interaction_low")}}
    apart = {_names(first): mine["delta_a"], _names(second): mine["delta_b"]}
    both = _names(first, second)
    name = "Redundant pair of induction_pair, by drop of the target's probability"
    return [
        Check(
            name,
            f"by pairs: {both} most, above {BOTH}",
            f"{both} interact most, above {BOTH}",
            found,
            top == (first, second) and mine["interaction_low"] > BOTH,
            f"{_names(*top)}: {pairs[top]['interaction']:+.3f}, from {pairs[top]['interaction_low']:+.3f}",
        ),
        Check(
            name,
            f"by single heads: each below {SINGLE}",
            f"each below {SINGLE}",
            apart,
            max(map(abs, apart.values())) < SINGLE,
            "  ".join(f"{head}: {cost:+.3f}" for head, cost in apart.items()),
        ),
    ]


def _rows_of(tables: "RunTables", metric: str) -> list[dict[str, Any]]:
    """The rows of the impact table about one metric."""
    return tables.impact.loc[tables.impact["metric"] == metric, :].to_dict("records")


def _names(*heads: Head) -> str:
    return " + ".join(head_label(*head) for head in heads)
