"""Measure how well the model does on every behaviour that ships with the tool; writes docs/behaviours.md.

All examples of a behaviour are used, with its default corruption. A family takes seconds on a laptop's CPU.

  tiny-ablate behaviours --out docs/behaviours.md
  tiny-ablate behaviours model=gpt2 --families ioi sva
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiny_ablation.commands._behaviour import behaviour, load_network, run_clean, template_lines, told
from tiny_ablation.commands._compose import compose
from tiny_ablation.commands._console import add_out, add_overrides, parser, say_json, write_or_say
from tiny_ablation.config.schema import DatasetConfig, RootConfig
from tiny_ablation.data.corpus import family_names, family_of
from tiny_ablation.report import markdown
from tiny_ablation.run.baseline import CHANCE, MARGIN, WELL_ABOVE

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network


def main(args: list[str]) -> int:
    """Measure the behaviours and write or print the page."""
    flags = parser("behaviours", __doc__)
    add_overrides(flags)
    flags.add_argument("--families", nargs="+", choices=family_names(), help="default: all")
    add_out(flags)
    flags.add_argument("--json", action="store_true", help="print the numbers as JSON")
    given = flags.parse_intermixed_args(args)
    root = compose(given.overrides).root
    network = load_network(root)
    found = [_measure(root, name, network) for name in given.families or family_names()]
    if given.json:
        say_json(found)
    page = "\n".join([*_page(root, found), ""])
    if given.out or not given.json:
        write_or_say(page, given.out)
    return 0


def _measure(root: RootConfig, name: str, network: "Network") -> dict[str, Any]:
    """The baseline on all examples of a family that the tokenizer can serve."""
    cfg = DatasetConfig(name=name, family=name, common_rows=root.dataset.common_rows)
    seen = behaviour(replace(root, dataset=cfg), network.model)
    drawn = seen.draw(None) if seen.lengths else []
    return {
        "family": name,
        "description": family_of(cfg).description,
        "seeded": seen.corpus.seeded,
        "unscorable": len(seen.unscorable),
        "measured": told(root, drawn, run_clean(root, network, drawn)) if drawn else None,
    }


def _page(root: RootConfig, found: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "# What the model can do"
    yield ""
    yield (
        f"How well `{root.model.name}` does on each behaviour before anything is ablated. Taking apart what the model cannot "
        "do says little, so look here first. Written by:"
    )
    yield ""
    yield f"    tiny-ablate behaviours model={root.model.name} --out docs/behaviours.md"
    yield ""
    yield (
        f"All examples of each family (seed {root.seed}, default corruption, {root.device.dtype.value}). *Accuracy*: the most "
        "probable next token is the target. *Target > foil*: the share of examples whose target is more probable than the "
        "foil; chance is one half. Where several answers are right (`greater_than`), they count together. In brackets"
        f" {root.stats.confidence:.0%} intervals, clustered by group."
    )
    yield ""
    yield from markdown.table(
        ["family", "n", "groups", "accuracy", "target > foil", "logit_diff", "prob_diff", "verdict"],
        ([f"[{each['family']}](#{each['family']})", *_numbers(each["measured"])] for each in found),
    )
    yield ""
    yield (
        f"*Well above chance*: the interval of target > foil lies above {WELL_ABOVE}. *Above*, *below*: it lies wholly on that "
        f"side of {CHANCE}. *At chance*: it includes {CHANCE}. A run warns where the interval reaches below "
        f"{CHANCE + MARGIN:.1f}. A model can prefer the target to the foil without it being the most probable word; the two "
        "columns differ where many other words fit."
    )
    yield ""
    yield (
        "The prompts of `facts` were partly selected on the default model: each wording has about six facts that it completes "
        "and two that it does not. So the accuracy of `facts` on that model describes the selection and says nothing about how "
        "much the model knows. The other families were not filtered by any model's answers."
    )
    for each in found:
        yield from _section(each)


def _numbers(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["0", "0", "", "", "", "", "no row can be scored with this tokenizer"]
    share, probability = found.get("preference"), found.get("prob_diff")
    logits = found.get("logit_diff") or found.get("seq_logprob_diff")
    return [
        str(found["n"]),
        str(found["n_groups"]),
        f"{found['accuracy']['mean']:.2f}",
        "" if share is None else "{mean:.2f} [{ci_low:.2f}, {ci_high:.2f}]".format(**share),
        "" if logits is None else "{mean:+.2f} [{ci_low:+.2f}, {ci_high:+.2f}]".format(**logits),
        "" if probability is None else f"{probability['mean']:+.2f}",
        found["verdict"],
    ]


def _section(each: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {each['family']}"
    yield ""
    prompts = "The seed draws the prompts." if each["seeded"] else "The prompts are written; the seed draws which are used."
    yield f"{each['description']} {prompts}"
    if each["unscorable"]:
        yield f"{each['unscorable']} rows cannot be scored with this tokenizer and are left out."
    if each["measured"]:
        yield ""
        head, *rows = template_lines(each["measured"])
        yield from markdown.table(head, rows)
