"""A behaviour as a model meets it: which rows its tokenizer serves, and how well it does on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import RootConfig, Span
from tiny_ablation.data.corpus import Corpus, load_corpus, select
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.run.baseline import DIFFERENCES, Baseline, baseline, by_template, verdict
from tiny_ablation.run.examples import scorable_by, score_split

if TYPE_CHECKING:
    from tiny_ablation.models.loader import LoadedModel, TokenizerOnly
    from tiny_ablation.models.network import Network


@dataclass(frozen=True)
class Behaviour:
    """A corpus under one tokenizer; a row's tokens are made when they are drawn, so that a million rows fit into memory."""

    root: RootConfig
    corpus: Corpus  # the whole corpus
    model: "LoadedModel | TokenizerOnly"  # the tokenizer
    lengths: dict[int, int]  # how many clean prompts have so many tokens, of the rows of the split that can be served
    unscorable: dict[str, str]  # by id, why the others cannot

    @property
    def n_scorable(self) -> int:
        """How many rows of the split can be served."""
        return sum(self.lengths.values())

    def draw(self, n: int | None) -> list[TokenizedExample]:
        """The examples of a run of `n`."""
        root = self.root
        drawn = select(self.corpus, root.dataset.split, n, root.seed, without=self.unscorable)
        return scorable_by(self.model, drawn, root).examples


def behaviour(root: RootConfig, model: "LoadedModel | TokenizerOnly") -> Behaviour:
    """Read, check and tokenise the corpus of a config.

    Raises:
        UserError: it cannot be used; rows that only this tokenizer cannot serve are no error here.
    """
    corpus = load_corpus(root.dataset, root.seed)
    faults, lengths = score_split(root, corpus, model)
    return Behaviour(root, corpus, model, dict(sorted(lengths.items())), faults)


def load_network(root: RootConfig) -> "Network":
    """The model of a config on its device."""
    from tiny_ablation.run.prepare import load_networks

    [network], _ = load_networks(root)
    return network


def run_clean(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> Baseline:
    """The un-intervened model on some examples."""
    return baseline(network, tokens, root.metrics.span, root.device.batch_tokens)


def told(root: RootConfig, tokens: Sequence[TokenizedExample], found: Baseline) -> dict[str, Any]:
    """What `run_clean` found of some examples, overall with intervals and per template; JSON values."""
    from tiny_ablation.run.site_statistics import baseline_intervals

    columns = {"accuracy": found.correct, **found.preferred, **found.measured}
    groups = [t.example.group for t in tokens]
    why = "metrics.span=text" if root.metrics.span is Span.text else "rows without foil"
    overall = baseline_intervals(root, columns, groups)
    return {
        "n": len(tokens),
        "n_groups": len(set(groups)),
        "accuracy_means": found.criterion,
        **overall,
        "verdict": verdict(overall["preference"]) if found.preferred else f"not compared ({why})",
        "by_template": by_template([t.example.template for t in tokens], columns),
    }


def template_lines(found: dict[str, Any]) -> Iterator[list[str]]:
    """A row of words per template, the heading first."""
    differences = [name for names in DIFFERENCES.values() for name in names if name in found]
    shares = {n: said for n, said in (("accuracy", "accuracy"), ("preference", "target > foil")) if n in found}
    yield ["template", "n", *shares.values(), *differences]
    for row in found["by_template"]:
        share = [f"{row[name]:.2f}" for name in shares]
        changes = [f"{row[name]:+.2f}" for name in differences]
        yield [row["template"] or "(none)", str(row["n"]), *share, *changes]
