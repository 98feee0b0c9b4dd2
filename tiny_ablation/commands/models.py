"""Prove, on tiny random models, which architectures can be taken apart exactly; writes docs/models.md.

Every causal language model of the installed transformers is built from a shrunken config, without a network, and proven as a
model is when it is loaded. A few minutes for all on one core.

  tiny-ablate models
  tiny-ablate models llama gemma3_text qwen3_moe
  tiny-ablate models --out docs/models.md
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tiny_ablation.commands._architectures import BAR, EXACT, NONE, PART, REFUSED, Architecture, examined
from tiny_ablation.commands._console import add_out, parser, say_json, write_or_say
from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.report import markdown

_COLUMNS = {
    "heads": ("z",),
    "q": ("q",),
    "k": ("k",),
    "v": ("v",),
    "attention output": ("attn_out",),
    "MLPs": ("mlp_out",),
    "neurons": ("neurons",),
    "residual streams": ("resid_pre", "resid_post"),
}
_BY = re.compile(r" by [\d.e+-]+ of their size")  # which differs between machines
_WORST = (REFUSED, PART, EXACT, NONE)


def main(args: list[str]) -> int:
    """Prove the architectures and write or print the page."""
    flags = parser("models", __doc__)
    flags.add_argument("names", nargs="*", metavar="NAME", help="model types of transformers; default: all")
    add_out(flags)
    flags.add_argument("--json", action="store_true", help="print what was found as JSON")
    given = flags.parse_intermixed_args(args)
    from tiny_ablation.models.random_models import architectures
    from tiny_ablation.report.terminal import Screen

    known = architectures()
    if unknown := [name for name in given.names if name not in known]:
        raise ConfigError(
            f"models: the installed transformers has no causal language model {unknown[0]}{did_you_mean(unknown[0], known)}"
        )
    names, found = list(dict.fromkeys(given.names)) or known, []
    with Screen().progress("architectures", len(names)) as stage:
        for each in examined(names):
            found.append(each)
            stage.advance()
    if given.json:
        say_json([each._asdict() | {"attends": each.attends, "meets_bar": each.meets_bar} for each in found])
    page = "\n".join([*_page(found), ""])
    if given.out or not given.json:
        write_or_say(page, given.out)
    return 0


def _page(found: Sequence[Architecture]) -> Iterator[str]:
    import transformers

    attending = [each for each in found if each.built and each.attends]
    right = [each for each in attending if each.meets_bar]
    share = f" ({len(right) / len(attending):.0%})" if attending else ""
    yield "# Models: what can be ablated in which architecture"
    yield ""
    yield "Written by:"
    yield ""
    yield "    tiny-ablate models --out docs/models.md"
    yield ""
    yield (
        f"transformers {transformers.__version__} has {len(found)} architectures with a causal language model. "
        f"{len(attending)} of them can be built, are causal and have attention; in {len(right)} of them{share} heads, MLPs and "
        "residual streams are exact wherever a block has them. Each was built with random weights from a shrunken config of "
        "its own, and proven as every model is when it is loaded: [how a model is taken apart](how-it-works.md). There is no "
        "list of supported models: one whose architecture is not here, or whose config differs, is proven in the same way."
    )
    yield ""
    yield (
        f"*{EXACT}*: proven in every block that has such a part. *{PART}*: in some blocks. *{REFUSED}*: it could not be "
        "proven, and a run that asks for it ends with the reason. *-*: no block has such a part. *Switched off*: fast ways of "
        "computing that do not give what the bare model gives; runs do without them, slower and with the same numbers."
    )
    yield ""
    rows = []
    for each in (each for each in found if each.components and each.attends):
        states = [min((each.components[c] for c in components), key=_WORST.index) for components in _COLUMNS.values()]
        rows.append([each.name, *("-" if state == NONE else state for state in states), ", ".join(each.off)])
    yield from markdown.table(["architecture", *_COLUMNS, "switched off"], rows)
    yield from _sections(found)


def _sections(found: Sequence[Architecture]) -> Iterator[str]:
    yield from _section(
        "Heads, MLPs or residual streams that are not exact",
        {
            each.name: ["; ".join(f"{', '.join(c)}: {reason}" for reason, c in each.refused.items() if {*BAR} & {*c})]
            for each in found
            if each.components and each.attends and not each.meets_bar
        },
    )
    yield from _section("Nothing can be ablated", {e.name: [e.error] for e in found if e.error and e.built})
    yield from _section("Not built, or not causal", {e.name: [e.error] for e in found if e.error and not e.built})
    yield from _section(
        "Without attention",
        {
            e.name: [", ".join(c for c, state in e.components.items() if state == EXACT) + " are exact"]
            for e in found
            if not e.attends
        },
    )
    others: dict[str, list[str]] = defaultdict(list)
    for each in found:
        for reason, components in each.refused.items():
            if each.meets_bar:
                others[f"{', '.join(components)}: {reason}"].append(each.name)
    yield from _section("Other parts that are refused", others)
    off: dict[str, list[str]] = defaultdict(list)
    for each in found:
        for path, reason in each.off.items():
            off[f"{path}: {_BY.sub('', reason)}"].append(each.name)
    yield from _section("What is switched off, and why", off)


def _section(title: str, lines: dict[str, Any]) -> Iterator[str]:
    if lines:
        yield from ("", f"## {title}", "")
        yield from (f"- {name}: {', '.join(values)}" for name, values in lines.items())
