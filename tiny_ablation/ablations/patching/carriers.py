"""Which sites carry the difference between two models, and at which block it arises.

With m the primary metric, a site recovers (m_a - m_base) / (m_tuned - m_base) where the base gets the tuned model's value, and
loses (m_tuned - m_a) / (m_tuned - m_base) where the tuned model gets the base's: ratios of means with Fieller's sets. A site
carries the difference if neither includes 0 and both shares have one sign, at a level at which the sets of all sites hold at
once (Bonferroni), and the effect is more than rounding.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tiny_ablation.ablations.patching.answers import entry
from tiny_ablation.ablations.patching.patch_ablation import MODELS
from tiny_ablation.ablations.patching.recovered import asymmetry, share_of_advantage
from tiny_ablation.config.seeds import generator
from tiny_ablation.document import Section, Table
from tiny_ablation.formats import bounds, holds_zero, interval, percent, plain, signed
from tiny_ablation.metrics.readout import NUMERICAL_TOLERANCE
from tiny_ablation.models.labels import site_label
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.plan import Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.site_statistics import interval_of_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHARES = {"base": "recovered", "tuned": "lost"}  # what a site does in a run of either model
_SAID = {"recovered": "recovers {} of it in the base", "lost": "loses {} of it in the tuned model"}
_NAMED, _SHOWN = 3, 10
_NOUNS = {"z": ("head", "heads"), "mlp_out": ("MLP", "MLPs"), "attn_out": ("attention output", "attention outputs")}


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """The table `asymmetry` where both directions ran, and `model_diff` of the summary."""
    by_run = {m.arm.run: m for m in aligned(measured)}
    if set(by_run) != set(MODELS) or not len(by_run["base"].examples):
        return Analysis()
    root, name = prepared.spec.settings.root, prepared.metrics[0].name
    cfg: Any = root.ablation
    both = asymmetry(prepared, measured, MODELS)
    ends = {run: m.baseline[name] for run, m in by_run.items()}
    rng = generator(root.seed, "bootstrap", "model_diff")
    sites = _sites(prepared, by_run, ends)
    described = next(m.arm.rows[0].described for m in by_run.values() if m.arm.rows)
    found: dict[str, Any] = {
        "models": {run: network.model.name for run, network in zip(MODELS, prepared.networks, strict=True)},
        "metric": name,
        "values": {run: float(values.mean()) for run, values in ends.items()},
        "difference": interval_of_mean(ends["tuned"] - ends["base"], by_run["base"].groups, root.stats, rng),
        "confidence": root.stats.confidence,
        "component": described.component,
        "take": cfg.take.value,
        "positions": described.positions,
        "n_sites": len(sites),
        "carriers": [site["site"] for site in sites if site["carries"]],
        "sites": sites[:_SHOWN],
        "depth": entry(prepared, measured, MODELS) if cfg.take.value == "activations" else None,
    }
    tables = {} if both is None else {"asymmetry": both}
    return Analysis(tables, {"model_diff": found}, _unseen(prepared, described.component))


def _unseen(prepared: PreparedRun, component: str) -> list[str]:
    """That heads are what the output projection gets, where that itself was tuned."""
    if component != "z":
        return []
    other = []
    for layer in prepared.networks[0].shape.layers_with("z"):
        weights: Any = [network.hook_point("z", layer).module.weight for network in prepared.networks]
        if not torch.equal(*weights):
            other.append(str(layer))
    if not other:
        return []
    return [
        f"the two models differ in the output projection of layer{'s' if len(other) > 1 else ''} {', '.join(other)}: a head's "
        "value is what enters it, so what it does otherwise is in no head; ablation.granularity=attn_out has it"
    ]


def _sites(
    prepared: PreparedRun, by_run: Mapping[str, Measured], ends: Mapping[str, "NDArray[np.float64]"]
) -> list[dict[str, Any]]:
    """Every site, that with the largest share first: `recovered` and `lost` with simultaneous bounds, and `carries`."""
    root, name = prepared.spec.settings.root, prepared.metrics[0].name
    ran = {run: m for run, m in by_run.items() if m.arm.rows}
    rows = next(iter(ran.values())).arm.rows
    level = 1 - (1 - root.stats.confidence) / len(rows)
    out: list[dict[str, Any]] = [
        {"site": site_label({k: v for k, v in row.key.items() if k != "scale"}, sentence=True), "carries": True} for row in rows
    ]
    for run, m in ran.items():
        share, gain = _SHARES[run], m.delta(name) if run == "base" else -m.delta(name)
        found = share_of_advantage(prepared, gain, ends, m.groups, MODELS, confidence=level)
        more = np.abs(gain.mean(1)) > NUMERICAL_TOLERANCE[root.device.dtype]
        for i, site in enumerate(out):
            low, high = (float(end[i]) if found.bounded[i] else float("nan") for end in (found.low, found.high))
            site |= {share: float(found.ratio[i]), f"{share}_low": low, f"{share}_high": high}
            site["carries"] &= bool(more[i]) and not holds_zero(low, high)
    shares = [_SHARES[run] for run in ran]
    for site in out:
        site["carries"] &= len({np.sign(site[share]) for share in shares}) == 1
    return sorted(out, key=lambda site: -min(abs(site[share]) for share in shares))


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """Which parts carry the difference, with the strongest of them, and where in depth it arises."""
    found = summary.get("model_diff")
    if not found:
        return []
    difference, values, models = found["difference"], found["values"], found["models"]
    differ = not holds_zero(difference["ci_low"], difference["ci_high"])
    how = (
        "what the part has in the other model's own run, so a part may hand on what parts before it do otherwise"
        if found["take"] == "activations"
        else "what the other model's part makes of its input in the run at hand, so that its own weights alone count"
    )
    text = (
        f"{found['metric']} of {models['base']} (the base) is {signed(values['base'], 3)}, of {models['tuned']} (tuned) "
        f"{signed(values['tuned'], 3)}: a difference of {signed(difference['mean'], 3)} "
        f"{interval(difference['ci_low'], difference['ci_high'], 3)}. "
        f"Put in is {how}. The intervals of the shares hold for all {found['n_sites']} sites at once."
    )
    title = "Which parts carry the difference"
    if not differ:
        none = f"The two models cannot be told apart by {found['metric']} on these examples, so no part can carry a difference."
        return [Section(title, [text], (), none, firm=False)]
    depth = [_depth(found["depth"])] if found["depth"] else []
    return [Section(title, [text], [_table(found)], _headline(found), firm=True), *depth]


def _headline(found: Mapping[str, Any]) -> str:
    one, several = _NOUNS.get(found["component"], ("residual stream", "residual streams"))
    carriers, total = len(found["carriers"]), found["n_sites"]
    if not carriers:
        return f"No {one} by itself carries the difference between the two models: no share of {total} can be told from 0."
    named = [site for site in found["sites"] if site["carries"]][:_NAMED]
    each = []
    for site in named:
        shares = [_SAID[share].format(f"{100 * site[share]:.0f} %") for share in _SHARES.values() if share in site]
        each.append(f"{site['site']} {' and '.join(shares)}")
    more = f"; and {carriers - len(named)} more" if carriers > len(named) else ""
    which = f"{carriers} of {total} {several if total > 1 else one}"
    return f"{which} carry the difference between the two models: {'; '.join(each)}{more}."


def _table(found: Mapping[str, Any]) -> Table:
    shares = [share for share in _SHARES.values() if share in found["sites"][0]]
    rows = []
    for site in found["sites"]:
        row = [site["site"]]
        for share in shares:
            row += [plain(site[share], 3), bounds(site[f"{share}_low"], site[f"{share}_high"], 3)]
        rows.append([*row, "yes" if site["carries"] else "no"])
    caption = (
        f"Shares of the difference, the {percent(found['confidence'])} intervals simultaneous over all sites; carries: no "
        "interval includes 0."
    )
    return Table(caption, ["site", *(text for share in shares for text in (share, "interval")), "carries"], rows)


def _depth(found: Mapping[str, Any]) -> Section:
    """At which block the difference arises, where the whole residual stream was put in block by block."""
    top = max(found["steps"], key=lambda step: abs(step["step"]))
    place = f"block {top['layer']}" + (" (with the embeddings)" if top["layer"] == 0 else "")
    headline = (
        f"The largest step is at {place}: with the tuned model's residual stream before it the base has "
        f"{100 * top['before']:.0f} % of the difference, behind it {100 * top['after']:.0f} %."
    )
    caption = "The share of the difference behind each block, less that behind the one before."
    rows = [
        [str(s["layer"]), plain(s["after"], 3), signed(s["step"], 3), interval(s["low"], s["high"], 3)] for s in found["steps"]
    ]
    table = Table(caption, ["block", "share", "step", "interval"], rows)
    return Section("Where in depth the difference arises", (), [table], headline, firm=True)
