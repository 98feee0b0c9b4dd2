"""A run in the terminal: what is run, and what its summary says when it is done."""

from typing import TYPE_CHECKING, Any

from tiny_ablation.report.evidence import sections, stable_sites
from tiny_ablation.report.examples import examples_section, readouts_section
from tiny_ablation.report.terminal import Screen
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES

if TYPE_CHECKING:
    from tiny_ablation.run.prepare import PreparedRun


def headline(prepared: "PreparedRun") -> dict[str, str]:
    """Model, data, ablation and device, in words."""
    root, shape = prepared.spec.settings.root, prepared.network.shape
    sites = sum(len(arm.rows) for arm in prepared.arms)
    second = {} if prepared.other is None else {"second model": prepared.other.model.name}
    return {
        "model": f"{root.model.name}: {shape.n_layers} layers of {shape.n_heads} heads, {root.model.weights.value} weights",
        **second,
        "dataset": f"{root.dataset.name}, split {root.dataset.split.value}: {len(prepared.tokens)} examples, seed {root.seed}",
        "ablation": f"{root.ablation.kind}: {sites} interventions",
        "device": f"{prepared.device} {root.device.dtype.value}",
    }


def show_run(prepared: "PreparedRun", rundir: RunDir, summary: dict[str, Any], screen: Screen) -> None:
    """Print the strongest sites, the evidence, the warnings and where the files are."""
    screen.baseline(summary)
    stability, reserve = summary.get("stability"), ""
    if stability and not stability["stable"]:  # other examples would name other sites
        steady = len(stable_sites(stability))
        reserve = f" ({steady} of {stability['top']} stable)" if steady else " (not stable)"
    screen.table(summary, f"Strongest {TABLES[prepared.spec.table].nouns[1]}{reserve}")
    for section in (
        *sections(summary, None),
        examples_section(rundir, summary, sites=1, prompts=3, longest=40),
        readouts_section(rundir, heads=1, prompts=3, longest=30),
    ):
        screen.section(section)
    for text in summary["warnings"]:
        screen.warn(text)
    table = str(rundir.table(prepared.spec.table).relative_to(rundir.path))
    names = ["report.html", "artifacts/feature_panel.html", "sae", table, "metrics/per_example.parquet", "metrics/summary.json"]
    screen.files(rundir.path, [name for name in names if (rundir.path / name).exists()])
    screen.next_command("report", rundir.path, "--open")
