"""Show which components matter in several conditions of a sweep, with other parameters than the sweep's own.

  tiny-ablate invariants DIR --k 10 --metric logit_diff --op intersection
  tiny-ablate invariants DIR --k q0.05 --direction hurts --json

What is not given is as in the sweep's config. The sweep's own invariants.json stays as it is unless --write is given; figures
and page keep showing the sweep's own, which `tiny-ablate aggregate` restores.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiny_ablation.commands._console import parser, say, say_json, table
from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.config.sweep import sweep_config

_SHOWN = 40


def main(args: list[str]) -> int:
    """Print the invariants of one sweep."""
    flags = parser("invariants", __doc__)
    flags.add_argument("dir", type=Path, metavar="DIR", help="the directory of a sweep (-m)")
    flags.add_argument("--k", help="components in a condition's top set: a number, or q0.05 for a q-value")
    flags.add_argument("--metric", action="append", help="that ranks components; repeat it for several")
    flags.add_argument("--op", choices=[op.value for op in SetOperation], help="what counts as invariant")
    flags.add_argument("--direction", choices=[sign.value for sign in EffectSign], help="which effects are ranked")
    flags.add_argument("--write", action="store_true", help="replace the sweep's invariants.json")
    flags.add_argument("--json", action="store_true", help="print the whole result as JSON")
    given = flags.parse_args(args)
    from tiny_ablation.store.files import to_json
    from tiny_ablation.sweep.analysis import sweep_invariants

    def changed(cfg: SweepConfig) -> SweepConfig:
        asked = {"k": given.k, "metrics": given.metric, "op": given.op, "direction": given.direction}
        return sweep_config(asdict(cfg) | {key: value for key, value in asked.items() if value is not None})

    # As it would stand in `invariants.json`.
    found = json.loads(to_json(sweep_invariants(given.dir, changed, write=given.write)))
    if given.json:
        say_json(found)
    else:
        say(*_lines(found))
    return 0


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for each in found["sets"]:
        yield from _set_lines(each, found)
    yield from (f"note: {text}" for text in found["notes"])


def _set_lines(each: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    effects = {"both": "effects of either sign", "hurts": "effects that hurt", "helps": "effects that help"}
    yield f"{each['model']}: {each['n_components']} components by {each['metric']} ({found['convention'][each['metric']]})"
    yield f"top sets of k={found['k']}, {effects[found['direction']]}; kept: {found['kept']}"
    yield ""
    if each["members"]:
        yield from table(_members(each["members"], [_label(c) for c in each["conditions"]]))
        yield ""
    yield f"{each['size']} kept"
    if each["unresolved"]:
        yield f"{len(each['unresolved'])} more stand in the top sets, but their effects are unresolved (q above 0.05):"
        yield from table(_members(each["unresolved"], [_label(c) for c in each["conditions"]]))
    yield f"{each['overlap']} stand in the top sets as asked for; by chance:"
    for chance in each["chance"]:
        yield f"  {chance['expected']:.3g} expected, p {_p(chance['p_value'])}; null: {chance['null']}"
    if agreement := each["agreement"]:
        yield (
            f"whole rankings: Kendall's W {_share(agreement['kendalls_w'])}, rank-biased overlap "
            f"{_share(agreement['rbo_mean'])} on average, {_share(agreement['rbo_min'])} at least"
        )
    stable = [f"{_label(c)} {_share(c['stability'])}" for c in each["conditions"]]
    yield f"top sets when examples are drawn anew ({found['n_resamples']} draws, mean Jaccard): {', '.join(stable)}"
    yield from (f"note: {text}" for text in each["notes"])
    yield ""


def _members(members: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Iterator[list[str]]:
    """A line per component: q, how often it returns, and its effect in each condition; in brackets outside of the top set."""
    from tiny_ablation.run.effects import site_name

    yield ["component", "q", "stability", *labels]
    for member in members[:_SHOWN]:
        q = member.get("q_value")
        yield [
            site_name(member),
            "-" if q is None else _p(q),
            _share(member["stability"]),
            *(
                _signed(member["delta"][label]) if label in member["conditions"] else f"({_signed(member['delta'][label])})"
                for label in labels
            ),
        ]
    if len(members) > _SHOWN:
        yield [f"... and {len(members) - _SHOWN} more", *[""] * (len(labels) + 2)]


def _label(condition: Mapping[str, Any]) -> str:
    return f"{condition['condition']} {condition['direction']}" if condition["direction"] else condition["condition"]


def _signed(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _p(value: float) -> str:
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
