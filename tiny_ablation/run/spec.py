"""What is known of a run before its model: checked settings, its examples, what identifies it.

Imports neither torch nor numpy, so that a sweep can check all its cells, and a rerun can skip finished ones, in a moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiny_ablation.config.identity import Identity, identify
from tiny_ablation.config.model_options import model_option
from tiny_ablation.config.schema import DatasetConfig, ModelConfig, RootConfig, Span
from tiny_ablation.config.settings import Settings
from tiny_ablation.data.corpus import Corpus, family_of, load_corpus, select
from tiny_ablation.data.examples import Example
from tiny_ablation.data.text import listing
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.metrics.registry import metric, metric_names, span_of
from tiny_ablation.models.identity import tokenizer_id
from tiny_ablation.plugins import versions_of
from tiny_ablation.run.plan import Ablation
from tiny_ablation.store.provenance import numeric_versions


@dataclass(frozen=True)
class RunSpec:
    """What is known without the model, and without importing torch."""

    settings: Settings
    ablation: Ablation  # its family
    corpus: Corpus  # the whole corpus
    examples: Sequence[Example]  # those of this run
    condition: str  # the label of the run in tables
    seed_effect: str  # what the seed draws: any of `prompts`, `examples` and the kind's draws, or `none`

    @property
    def table(self) -> str:
        """The impact table that is filled, a key of `tiny_ablation.store.schema.TABLES`."""
        return self.ablation.table_of(self.settings.root.ablation)

    @property
    def others(self) -> dict[str, ModelConfig]:
        """The other models whose tokenizers must serve the examples too, by the names of their options."""
        return {name: model_option(name) for name in self.settings.root.dataset.common_rows or ()}

    @property
    def other_model(self) -> ModelConfig | None:
        """The second model of the run, where it has one."""
        return self.ablation.other_model(self.settings.root.ablation)

    @property
    def models(self) -> list[ModelConfig]:
        """The models whose weights the run needs: its own, and the second one, where it has one."""
        return [self.settings.root.model, *([self.other_model] if self.other_model else [])]

    def identity(self, weights: str, other_weights: str = "") -> Identity:
        """What identifies the run, given what identifies its weights and those of its second model."""
        return identify(
            self.settings.defining,
            condition=self.condition,
            data=self.corpus.content_hash,
            splits=self.corpus.split_hash,
            weights=weights,
            versions=numeric_versions()
            | versions_of({"ABLATIONS": {self.ablation.name}, "METRICS": set(metric_names_of(self.settings.root))}),
            other_weights=other_weights,
            inputs=self.ablation.input_digest(self.settings.root.ablation),
            tokenizers={name: tokenizer_id(other) for name, other in self.others.items()},
        )


LoadCorpus = Callable[[DatasetConfig, int], Corpus]


def share_corpora() -> LoadCorpus:
    """`load_corpus` for many runs: a corpus that several of them use is read, checked and hashed once."""
    found: dict[tuple[str, int | None], Corpus] = {}

    def load(cfg: DatasetConfig, seed: int) -> Corpus:
        corpus = found.get((repr(cfg), None)) or found.get((repr(cfg), seed)) or load_corpus(cfg, seed)
        found[repr(cfg), seed if corpus.seeded else None] = corpus
        return corpus

    return load


def make_spec(settings: Settings, ablation: Ablation, load: LoadCorpus = load_corpus) -> RunSpec:
    """Check what can be checked without a model; `load` gives the corpus of a dataset and seed (see `share_corpora`).

    Raises:
        ConfigError: a setting is wrong.
        DataError: the corpus cannot be used.
    """
    root = settings.root
    ablation.check(root.ablation)
    names = metric_names_of(root)
    corpus = load(root.dataset, root.seed)
    _check_foils(root, corpus, names)
    examples = select(corpus, root.dataset.split, root.dataset.n_examples, root.seed)
    # Rows without sets that stand among others are left to the tokenizer, which refuses or skips each.
    if root.metrics.span is Span.full and all(example.has_sets for example in examples):
        raise ConfigError(
            f"metrics.span=full scores one target and one foil, but the examples of {root.dataset.name} have sets of answers; "
            "use metrics.span=first"
        )
    draws = ["prompts"] if corpus.seeded else []
    if root.dataset.n_examples is not None and len(corpus.of_split(root.dataset.split)) > len(examples):
        draws.append("examples")
    draws += ablation.random_components(root.ablation, len(corpus.examples) - len(examples))
    draws += ["sampled tokens"] if root.generate.temperature > 0 else []
    condition = root.condition or root.dataset.name
    if root.stats.confirm is not None and not ablation.confirmable:
        raise ConfigError(
            f"stats.confirm={root.stats.confirm.value}: ablation={ablation.name} has no sites that could be measured again one "
            "by one; leave it out, or choose another ablation"
        )
    if root.metrics.span is Span.text and (not ablation.on_text or getattr(root.ablation, "screen", None)):
        screened = " with ablation.screen" if ablation.on_text else ""
        raise ConfigError(
            f"metrics.span=text: ablation={ablation.name}{screened} compares sites by what gradients or logits say, and a "
            "written text has neither; use metrics.span=first, or name the sites whose texts you want (ablation.layers, "
            "ablation.heads) in an ablation of single sites"
        )
    return RunSpec(settings, ablation, corpus, examples, condition, ", ".join(draws) or "none")


def _check_foils(root: RootConfig, corpus: Corpus, names: Sequence[str]) -> None:
    """Rows without a foil are for metrics that compare the target with nothing."""
    without = [e.id for e in corpus.examples if not e.wrong]
    needing = [name for name in names if metric(name).needs_foil]
    if not without or not needing:
        return
    free = [name for name in names if name not in needing] or [
        name for name in metric_names() if span_of(name) == root.metrics.span.value and not metric(name).needs_foil
    ]
    free.sort(key=lambda name: not name.endswith("p_drop"))  # the nearest to what was asked for; it ranks the sites
    primary = f" metrics.primary={free[0]}" if root.metrics.primary in needing else ""
    raise DataError(
        f"{len(without)} of {len(corpus.examples)} rows of {root.dataset.name} have no foil ({listing(without)}), and "
        f"{', '.join(needing)} compare the target with it; give them one (in a column of another name: "
        f"'dataset.fields={{foil: NAME}}'), or measure what needs none: 'metrics.names=[{','.join(free)}]'{primary}"
    )


_PRIMARY = {Span.full: "seq_logprob_diff", Span.text: "text_begins"}


def metric_names_of(root: RootConfig) -> list[str]:
    """The metrics of a run, the primary one first; where the config names none, it is the family's.

    Raises:
        ConfigError: a name is unknown, is not defined for the span, or the primary metric is not among them.
    """
    cfg = root.metrics
    default = _PRIMARY.get(cfg.span) or family_of(root.dataset).primary
    names = cfg.names or [name for name in metric_names() if span_of(name) == cfg.span.value]
    wrong = [name for name in names if span_of(name) != cfg.span.value]
    if wrong:
        raise ConfigError(f"metrics.names: {', '.join(wrong)} is not defined for metrics.span={cfg.span.value}")
    primary = cfg.primary or (default if default in names else names[0])
    if primary not in names:
        raise ConfigError(f"metrics.primary={primary} is not among metrics.names={names}")
    return [primary, *(name for name in names if name != primary)]
