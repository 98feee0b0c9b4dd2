"""Does what is said of circuits, screenings, stability and sizes hold? Simulated values through the code that says it."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.commands._selfcheck.simulate import Trial
from tiny_ablation.commands._selfcheck.simulate_sweeps import COVERS
from tiny_ablation.commands._selfcheck.simulate_sweeps import TRIALS as SWEEP_TRIALS

if TYPE_CHECKING:
    from tiny_ablation.ablations.circuit.curves import Curves
    from tiny_ablation.run.prepare import PreparedRun

CARRIES, NEEDED = "Any circuit said to carry the behaviour", "Any member said to be needed"
CARRIES_FOUND, NEEDED_FOUND = ("Any circuit that carries the behaviour is found", "Share of needed members that are found")
CMD, STABLE, RECALL, STATED, SIZE = (
    "CMD less its true value",
    "Stability less the overlap of two independent samples of half the size",
    "Sites that a screening missed are at most as many as it says",
    "Recall that a screening states, less the true one",
    "Effect size over its true value",
)
RANKING = "signed"
FRACTIONS = (0.05, 0.1, 0.2, 0.5)  # of 32 heads: circuits of 2, 3, 6 and 16
N_MEMBERS, N_INFLATED = 10, 20


def _curves(
    prepared: "PreparedRun", rng: np.random.Generator, n_groups: int, f: float, noise: float = 0.3, marginals: float = 0.0
) -> "Curves":
    """Circuits of f as given, and members that add so much to it; the whole model does 1, with all heads replaced 0."""
    from tiny_ablation.ablations.circuit.curves import Curves
    from tiny_ablation.ablations.circuit.design import EMPTY, Design, set_name
    from tiny_ablation.ablations.shared.head_ranking import HeadRanking

    shape = prepared.network.shape
    heads = shape.heads()
    earlier = HeadRanking("", prepared.metrics[0].name, dict.fromkeys(heads, 0.0), frozenset())
    plan = Design(earlier, {RANKING: tuple(heads)}, FRACTIONS, N_MEMBERS, N_INFLATED, 0, shape)

    def drawn(mean: float) -> np.ndarray:
        return mean + noise * rng.normal(size=n_groups)

    values = {
        set_name(RANKING, size, role): drawn(f if role == "kept" else 0.0)
        for size in plan.sizes()
        for role in ("kept", "removed")
    }
    whole = f - marginals
    changed = {f"{RANKING}/changed_{i}": drawn(whole) for i in range(N_MEMBERS)}
    changed |= {f"{RANKING}/changed_{N_MEMBERS + i}": drawn(f) for i in range(len(plan.inflating(RANKING)))}
    groups = [str(i) for i in range(n_groups)]
    return Curves(prepared, plan, {EMPTY: 0.0 * drawn(0.0), **values, **changed}, drawn(1.0), groups)


def _carries(f: float, prepared: "PreparedRun", rng: np.random.Generator) -> float:
    from tiny_ablation.ablations.circuit.analysis import circuit_table

    return float(circuit_table(_curves(prepared, rng, 12, f, noise=0.1), RANKING)["carries"].to_numpy().any())


def _needed(marginal: float, prepared: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether any member is said to be needed."""
    return float(_members(marginal, prepared, rng) > 0)


def _members(marginal: float, prepared: "PreparedRun", rng: np.random.Generator) -> float:
    """The share of members that are said to be needed."""
    from tiny_ablation.ablations.circuit.analysis import member_table

    curves = _curves(prepared, rng, 12, 0.9, marginals=marginal)
    return float(member_table(curves, RANKING)["needed"].to_numpy().mean())


def _cmd_covered(prepared: "PreparedRun", rng: np.random.Generator) -> float:
    found = _area(prepared, rng)
    return float(found["ci_low"] <= 0 <= found["ci_high"])


def _area(prepared: "PreparedRun", rng: np.random.Generator) -> dict[str, float]:
    """CMD of circuits that do all that the model does."""
    from tiny_ablation.ablations.circuit.analysis import circuit_table
    from tiny_ablation.ablations.circuit.curves import areas

    curves = _curves(prepared, rng, 10, 1.0)
    return areas(curves, RANKING, circuit_table(curves, RANKING))["cmd"]


def _stability(n_real: int, size: float, _: "PreparedRun", rng: np.random.Generator) -> float:
    """The overlap that is printed for 24 groups, less that of two further samples of 12."""
    from tiny_ablation.stats.halves import top_set_agreement

    means = np.where(np.arange(270) < n_real, size * rng.normal(size=270), 0.0)[:, None]
    printed = top_set_agreement(means + rng.normal(size=(270, 24)), range(24), 10, 200, rng).jaccard
    one, other = (set(np.argsort(-abs((means + rng.normal(size=(270, 12))).mean(1)))[:10].tolist()) for _ in range(2))
    return printed - len(one & other) / len(one | other)


def _recall_bound(_: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether the bound holds; nothing is said where no random site was left out."""
    found, missed = _screened(rng)
    return float(found["missed_at_most"] is None or missed <= found["missed_at_most"])


def _stated(_: "PreparedRun", rng: np.random.Generator) -> float:
    found, missed = _screened(rng)
    return found["recall"] - (1 - missed / found["of"])


def _screened(rng: np.random.Generator) -> "tuple[dict[str, Any], int]":
    """What a screening by default says of its recall, and how many of the strongest it missed; estimates correlate .8."""
    from tiny_ablation.ablations.shared.agreement import recall
    from tiny_ablation.ablations.shared.screening import ScreenKeys
    from tiny_ablation.run.plan import Estimates

    keys = ScreenKeys(kind="")
    sites = [(i // 9, i % 9) for i in range(270)]
    exact = rng.normal(size=270)
    values = 0.8 * exact + 0.6 * rng.normal(size=270)
    top = [sites[i] for i in np.argsort(-abs(values))[: keys.screen_top]]
    sample = [sites[i] for i in rng.permutation(270)[: keys.screen_random]]
    estimates = Estimates("z", "", "gradient", 1, sites, values, top, sample, None)
    effects = dict(zip(sites, exact.tolist(), strict=True))
    found = recall(estimates, effects)
    strongest = sorted(sites, key=lambda site: -abs(effects[site]))[: found["of"]]
    return found, len({*strongest} - {*top})


def _effect_size(_: "PreparedRun", rng: np.random.Generator) -> float:
    from tiny_ablation.stats.effect_size import standardised

    return float(standardised(1 + rng.normal(size=(400, 5)), range(5)).mean())


NO_NOISE = "circuits that do all that the model does, 10 groups"
SCREENED = "270 sites, estimates correlate .8 with effects"
TRIALS = (
    *SWEEP_TRIALS,
    Trial(COVERS, f"CMD of {NO_NOISE}", _cmd_covered, 0.93, 1.0, n=200),
    Trial(CMD, NO_NOISE, lambda prepared, rng: _area(prepared, rng)["value"], -0.01, 0.01, n=400),
    Trial(CARRIES_FOUND, "four circuits of f 1, 12 groups", partial(_carries, 1.0), 0.9, 1.0),
    Trial(CARRIES, "four circuits of f 0.8, at the edge of what counts, 12 groups", partial(_carries, 0.8), n=400),
    Trial(CARRIES, "four circuits of f 1.41, 12 groups", partial(_carries, 1.41), n=200),
    Trial(NEEDED, "ten members without which f stays as it is, 12 groups", partial(_needed, 0.0), n=400),
    Trial(NEEDED, "ten members without which f rises by 1", partial(_needed, -1.0), n=100),
    Trial(NEEDED_FOUND, "ten members without which f falls by 1", partial(_members, 1.0), 0.9, 1.0, n=50),
    Trial(RECALL, SCREENED, _recall_bound, 0.95, 1.0, n=500),
    Trial(STATED, SCREENED, _stated, None, None, n=500),
    Trial(STABLE, "270 heads with small effects, 24 groups", partial(_stability, 270, 0.25), -0.03, 0.03, n=200),
    Trial(STABLE, "10 of 270 heads have effects, 24 groups", partial(_stability, 10, 1.0), -0.03, 0.03, n=200),
    Trial(SIZE, "5 groups", _effect_size, 0.97, 1.03),
)
