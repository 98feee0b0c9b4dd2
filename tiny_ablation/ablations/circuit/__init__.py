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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.circuit.design import EMPTY, FRACTIONS, ROLES, Design, Minimal, design
from tiny_ablation.ablations.circuit.published import PUBLISHED
from tiny_ablation.ablations.shared.head_ranking import RANKINGS, ranking_path
from tiny_ablation.ablations.shared.head_sets import HeadSet, SetAblation, complement, label
from tiny_ablation.ablations.shared.means import MeanAblation, MeanKeys, plan_means
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.keys import key
from tiny_ablation.document import Figure, Section
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Analysis, Arm, InterventionSpec, LeftOut, PlanContext, Row, positions_key
from tiny_ablation.store.ledger import sha256_file
from tiny_ablation.store.reader import Run, load_run

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result


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
        """Refuse a missing ranking, two of them, and fewer than two fractions, which make no curve."""
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
        return load_run(Path(str(cfg.from_run))).manifest.run_id

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
        from tiny_ablation.ablations.circuit.sections import faithfulness

        return [faithfulness(result)] if result.summary.get("circuit") else []

    def circuit(self, run: Run, ranking: str, size: int | None) -> Sequence[tuple[int, int]]:
        """Those of `metrics/circuit.parquet`."""
        from tiny_ablation.ablations.circuit.analysis import heads_of

        return heads_of(run, ranking, size)

    def plan(self, cfg: CircuitConfig, context: PlanContext) -> list[Arm]:
        """The circuits of all rankings and sizes; then random ones for each, and the circuits of the test of members.

        That test has, for each ranking, the circuit without each of its members, and with each of some random heads.
        """
        plan = design(cfg, context.shape, context.seed)
        replacement, notes = _replacement(cfg, context)
        row = partial(_row, cfg, context.shape, replacement)
        circuits = {f"{by}/top_{size}": plan.circuit(by, size) for by in plan.orders for size in plan.sizes()}
        left_out = None
        if cfg.greedy:
            minimal, left_out = _searched(cfg, context, plan)
            notes = {**notes, "minimal": {by: asdict(found) for by, found in minimal.items()}}
            circuits |= {f"{by}/minimal": found.heads for by, found in minimal.items() if found.heads}
        if cfg.reproduce is not None:
            circuits["published"] = _published(cfg.reproduce, context.shape)
        rows = [row(f"{name}/{role}", heads, role) for name, heads in circuits.items() for role in ROLES]
        arms = [Arm(context.clean, [row(EMPTY, (), "kept"), *rows], notes=notes, left_out=left_out)]
        for name, heads in circuits.items():
            drawn = plan.randoms_of(name, heads)
            for role in ROLES if drawn else ():
                rows = [row(f"{name}/{role}/random_{i}", others, role) for i, others in enumerate(drawn)]
                arms.append(Arm(context.clean, rows, in_table=False, controls_of=f"{name}/{role}"))
        for by in plan.orders:
            circuit = set(plan.tested(by))
            if 0 < len(circuit) < plan.n_heads:
                changed = [tuple(sorted(circuit - {head})) for head in plan.tested(by)]
                changed += [tuple(sorted({*circuit, head})) for head in plan.inflating(by)]
                rows = [row(f"{by}/changed_{i}", heads, "kept") for i, heads in enumerate(changed)]
                arms.append(Arm(context.clean, rows, in_table=False))
        return arms


def _replacement(cfg: CircuitConfig, context: PlanContext) -> tuple[Replacement, Mapping[str, Any]]:
    """What is put in for a head, and notes on the means."""
    if cfg.replacement == "zero":
        return Scale(0.0), {}
    return plan_means(cfg, context, [("z", layer) for layer in context.shape.layers_with("z")])


def _row(cfg: CircuitConfig, shape: ModelShape, replacement: Replacement, name: str, heads: HeadSet, role: str) -> Row:
    replaced = complement(heads, shape) if role == "kept" else heads
    edits = tuple(Edit("z", layer, head, replacement, cfg.positions) for layer, head in replaced)
    kind = "complement" if role == "kept" else "set"
    return Row(
        key={"set": name, "size": len(heads)},
        intervention=Intervention(edits) if edits else None,
        described=InterventionSpec(kind, "z", replacement.name, cfg.positions, "clean", name),
        sites=label(heads),
    )


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
    row = partial(_row, cfg, on.shape, _replacement(cfg, on)[0])
    keep = lambda heads: row("", tuple(sorted(heads)), "kept").intervention  # noqa: E731
    search = Search(context.network, reference.prompts, context.metric, context.full, keep)
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


ABLATIONS = (CircuitAblation(),)
