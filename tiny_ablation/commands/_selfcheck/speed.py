"""How long the statistics of a large run take: all heads of the default model, by every metric of a run."""

import time

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.commands._selfcheck.simulate import MODEL, measured, pretend
from tiny_ablation.commands._selfcheck.truths import Truth
from tiny_ablation.config.seeds import generator

N_HEADS, N_EXAMPLES = 270, 300
SECONDS = 10.0


def check_speed(shop: Workshop) -> list[Check]:
    """The impact table of a run, every example a group of its own, which is the most work."""
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
