"""Keep the strongest heads of an earlier run and replace all others: is this set of heads the circuit?

Answers four questions about the heads that a ranking puts first, at each fraction of all heads:

- *faithfulness*: how much of the behaviour is left when only the circuit works: f = (m(C) - m(empty)) / (m(all) - m(empty)),
  where `empty` has every head replaced (Mueller et al. 2025, MIB). The areas under f and |1 - f| are CPR and CMD;
- *completeness*: what is left when the circuit is taken out of the model, on the same scale; 0 is complete (Wang et al. 2022,
  section 4.1, for the whole circuit as the subset K);
- *minimality*: how much f loses with each member, beside random heads put into the circuit (Wang et al. 2022, section 4.2; Shi
  et al. 2024, Hypothesis Testing the Circuit Hypothesis in LLMs, for inflated circuits);
- whether random circuits with as many heads in each layer do as well.

    tiny-ablate ablation=circuit ablation.from_run=DIR dataset.split=test

The ranking may be another tool's (`ablation.ranking=FILE`). Besides the circuits of its fractions, `ablation.greedy=K`
searches the smallest one among its first K heads, and `ablation.reproduce=NAME` scores a published circuit and the agreement
with it.

Costs about 2 x rankings x sizes x (1 + n_random) runs of the whole model an example. The ranking comes from the earlier run, so
on its examples a circuit looks better than it is: evaluate on another split.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.circuit.design import EMPTY, FRACTIONS, ROLES, Design, Minimal, design, set_name
from tiny_ablation.ablations.circuit.published import PUBLISHED
from tiny_ablation.ablations.shared.head_ranking import RANKINGS, load_ranking_run
from tiny_ablation.ablations.shared.head_sets import HeadSet, SetAblation, complement, label
from tiny_ablation.ablations.shared.mean_keys import MeanAblation, MeanKeys
from tiny_ablation.ablations.shared.means import MeanPlan, plan_means
from tiny_ablation.ablations.shared.ranking_file import ranking_path
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.keys import key
from tiny_ablation.document import Figure, Section
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Analysis, Arm, InterventionSpec, LeftOut, PlanContext, Row, positions_key
from tiny_ablation.store.ledger import sha256_file

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result
    from tiny_ablation.store.reader import Run


@dataclass
class CircuitConfig(MeanKeys):
    """`ablation` keys of circuit; `mean` and `n_reference` are for replacement=mean."""

    from_run: str | None = key(
        None, help="the directory of an earlier run over heads; its run_id identifies it", identity=False
    )
    ranking: str | None = key(
        None,
        help="instead: a JSON file of any tool with scores of heads (docs/circuits.md); its content identifies it",
        identity=False,
    )
    greedy: int = key(
        0,
        help="search the smallest circuit among so many first heads, on n_reference examples that are not evaluated; 0: not",
        least=0,
    )
    reproduce: str | None = key(
        None, help="hold the ranking against the published circuit of this behaviour", choices=tuple(PUBLISHED)
    )
    replacement: str = key("mean", help="what is put in for a head outside the circuit", choices=("mean", "zero"))
    rankings: list[str] = key(
        list(RANKINGS),
        help="signed: heads that carry the behaviour first; absolute: the largest effects of either sign",
        choices=RANKINGS,
    )
    fractions: list[float] = key(list(FRACTIONS), help="of all heads, as in MIB", least=0, most=1)
    members: int = key(10, help="the circuit of so many heads is tested member by member; 0 for none", least=0)
    n_random: int = key(20, help="random circuits of the same size and layers to compare each with; 0 for none", least=0)
    positions: str = positions_key()


class CircuitAblation(SetAblation, MeanAblation):
    """See the module."""

    name = "circuit"
    config = CircuitConfig
    has_circuits = True
    on_text = False  # faithfulness is a share of a change of logits
    confirmable = False  # dataset.split says where circuits are evaluated

    def check(self, cfg: CircuitConfig) -> None:
        """Refuse a missing ranking, or two, and fractions between which there is no curve."""
        if (cfg.from_run is None) == (cfg.ranking is None):
            raise ConfigError(
                "ablation=circuit takes its ranking from an earlier run over heads, ablation.from_run=DIR, or from a file, "
                "ablation.ranking=FILE; name one of the two"
            )
        if cfg.ranking is not None:
            ranking_path(cfg.ranking)
        if len(cfg.fractions) < 2 or cfg.fractions != sorted(cfg.fractions):
            raise ConfigError(f"ablation.fractions={cfg.fractions}: name at least two shares of all heads, ascending")

    def input_digest(self, cfg: CircuitConfig) -> str:
        """The identity of the earlier run, or the checksum of the file."""
        if cfg.ranking is not None:
            return f"ranking:{sha256_file(ranking_path(cfg.ranking))}"
        return load_ranking_run(str(cfg.from_run)).manifest.run_id

    def random_components(self, cfg: Any, n_rest: int) -> tuple[str, ...]:
        """Random circuits, and the reference set where means are taken over a part of the rest."""
        drawn = cfg.replacement == "mean" or cfg.greedy
        reference = super().random_components(cfg, n_rest) if drawn else ()
        return (*reference, *(("random circuits",) if cfg.n_random else ()))

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """Faithfulness, completeness and minimality."""
        from tiny_ablation.ablations.circuit.analysis import analyse

        return analyse(prepared, measured)

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The circuits, in words and tables."""
        from tiny_ablation.ablations.circuit.sections import sections

        return sections(summary["circuit"])

    def figures(self, result: "Result") -> "Iterable[Figure]":
        """The faithfulness curves."""
        from tiny_ablation.ablations.circuit.figure import faithfulness

        return [faithfulness(result)] if result.summary.get("circuit") else []

    def circuit(self, run: "Run", ranking: str, size: int | None) -> Sequence[tuple[int, int]]:
        """Those of `metrics/circuit.parquet`."""
        from tiny_ablation.ablations.circuit.analysis import heads_of

        return heads_of(run, ranking, size)

    def plan(self, cfg: CircuitConfig, context: PlanContext) -> list[Arm]:
        """The circuits of all rankings and sizes; then random ones for each, and the circuits of the test of members."""
        plan = design(cfg, context.shape, context.seed)
        made = _RowBuilder(cfg, context, _replacement(cfg, context))
        minimal, left_out = _searched(cfg, context, plan) if cfg.greedy else ({}, None)
        others = {f"{ranking}/minimal": found.heads for ranking, found in minimal.items() if found.heads}
        if cfg.reproduce is not None:
            others["published"] = _published(cfg.reproduce, context.shape)
        notes = {"minimal": {ranking: asdict(found) for ranking, found in minimal.items()}} if minimal else {}
        named = made.named(plan, others)
        named = replace(named, notes={**named.notes, **notes}, left_out=left_out)
        return [named, *made.randoms(plan, others), *made.members(plan)]


def _replacement(cfg: CircuitConfig, context: PlanContext) -> MeanPlan | Scale:
    if cfg.replacement == "zero":
        return Scale(0.0)
    return plan_means(cfg, context, [("z", layer) for layer in context.shape.layers_with("z")])


def _searched(cfg: CircuitConfig, context: PlanContext, plan: Design) -> tuple[dict[str, Minimal], LeftOut | None]:
    """For each ranking what the greedy search finds on the reference set; of an outline as many heads, and what it takes."""
    from tiny_ablation.ablations.circuit.greedy import Search

    reference = context.reference(cfg.n_reference)
    if context.outline:
        heads = min(cfg.greedy, plan.n_heads - 1)
        found = {by: Minimal(tuple(sorted(order[:heads])), None, heads, 0) for by, order in plan.orders.items()}
        weights = sum(w.numel() for block in context.network.blocks for w in block.parameters())
        tokens = sum(len(prompt.ids) for prompt in reference.prompts)
        runs = len(plan.orders) * (heads + heads * (heads + 1) // 2)
        return found, LeftOut("the smallest circuits are searched", 2.0 * weights * tokens * runs)
    on = replace(context, clean=reference.prompts, templates=reference.templates)
    rows = _RowBuilder(cfg, on, _replacement(cfg, on))
    search = Search(
        context.network,
        reference.prompts,
        context.metric,
        context.full,
        lambda heads: rows.row("", tuple(sorted(heads)), "kept").intervention,
    )
    return {by: search.minimal(order, cfg.greedy) for by, order in plan.orders.items()}, None


def _published(name: str, shape: ModelShape) -> HeadSet:
    """The heads of a published circuit.

    Raises:
        ConfigError: it is of a model of another size.
    """
    found = PUBLISHED[name]
    if (shape.n_layers, shape.n_heads) != found.size:
        raise ConfigError(
            f"ablation.reproduce={name}: the published heads are of {found.model} ({found.size[0]} layers of {found.size[1]} "
            f"heads), and this model has {shape.n_layers} layers of {shape.n_heads}"
        )
    return found.heads


@dataclass(frozen=True)
class _RowBuilder:
    """Makes arms of circuits."""

    cfg: CircuitConfig
    context: PlanContext
    means: MeanPlan | Scale

    @property
    def replacement(self) -> Replacement:
        return self.means.replacement if isinstance(self.means, MeanPlan) else self.means

    def named(self, plan: Design, others: Mapping[str, HeadSet]) -> Arm:
        rows = [self.row(EMPTY, (), "kept")]
        for ranking, size in self.circuits(plan):
            heads = plan.circuit(ranking, size)
            rows += [self.row(set_name(ranking, size, role), heads, role) for role in ROLES]
        rows += [self.row(f"{name}/{role}", heads, role) for name, heads in others.items() for role in ROLES]
        notes = self.means.notes if isinstance(self.means, MeanPlan) else {}
        return Arm(self.context.clean, rows, notes=notes)

    def randoms(self, plan: Design, others: Mapping[str, HeadSet]) -> Iterator[Arm]:
        known = {f"{ranking}/top_{size}": plan.circuit(ranking, size) for ranking, size in self.circuits(plan)}
        for of, heads_of in {**known, **others}.items():
            drawn = plan.randoms_of(of, heads_of)
            for role in ROLES if drawn else ():
                name = f"{of}/{role}"
                rows = [self.row(f"{name}/random_{i}", heads, role) for i, heads in enumerate(drawn)]
                yield Arm(self.context.clean, rows, in_table=False, controls_of=name)

    def members(self, plan: Design) -> Iterator[Arm]:
        """For each ranking the circuit without each of its members, and with each of some random heads."""
        for ranking in plan.orders:
            circuit = set(plan.tested(ranking))
            if not 0 < len(circuit) < plan.n_heads:
                continue
            changed = [tuple(sorted(circuit - {head})) for head in plan.tested(ranking)]
            changed += [tuple(sorted({*circuit, head})) for head in plan.inflating(ranking)]
            rows = [self.row(f"{ranking}/changed_{i}", heads, "kept") for i, heads in enumerate(changed)]
            yield Arm(self.context.clean, rows, in_table=False)

    def circuits(self, plan: Design) -> Sequence[tuple[str, int]]:
        return [(ranking, size) for ranking in plan.orders for size in plan.sizes()]

    def row(self, name: str, heads: HeadSet, role: str) -> Row:
        replaced = complement(heads, self.context.shape) if role == "kept" else heads
        edits = tuple(Edit("z", layer, head, self.replacement, self.cfg.positions) for layer, head in replaced)
        kind = "complement" if role == "kept" else "set"
        return Row(
            key={"set": name, "size": len(heads)},
            intervention=Intervention(edits) if edits else None,
            described=InterventionSpec(kind, "z", self.replacement.name, self.cfg.positions, "clean", name),
            sites=label(heads),
        )


ABLATIONS = (CircuitAblation(),)
