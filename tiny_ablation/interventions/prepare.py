"""From a checked config to everything a run needs, refusing what cannot work before anything is written.

The order is by cost: settings, then the corpus, then the device, then the model, then its tokens, then the plan; so that a
mistake is told as early as it can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tiny_ablation.config.identity import Identity, identify
from tiny_ablation.config.schema import MetricsConfig, Span
from tiny_ablation.config.seeds import generator
from tiny_ablation.config.settings import Settings
from tiny_ablation.data.corpus import Corpus, load_corpus, select
from tiny_ablation.data.examples import Example
from tiny_ablation.data.tokens import TokenizedExample, servable
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.interventions.examples import Selection, keep, serve
from tiny_ablation.interventions.plan import Kind, Leg, PlanContext, ReferenceSet
from tiny_ablation.interventions.registry import find_kind
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models.device import resolve_device, set_up_torch
from tiny_ablation.models.loader import load_model, prepare, weights_id
from tiny_ablation.models.network import Network, build_network


@dataclass(frozen=True)
class Light:
    """What is known without the model, and without importing torch.

    Attributes:
        settings: the config.
        kind: the ablation kind.
        corpus: the whole corpus.
        examples: those of this run.
        condition: the label of the run in tables.
        seed_effect: what the seed draws: any of `prompts`, `examples` and the kind's draws, or `none`.
    """

    settings: Settings
    kind: Kind
    corpus: Corpus
    examples: Sequence[Example]
    condition: str
    seed_effect: str

    @property
    def table(self) -> str:
        """The impact table that is filled, a key of `tiny_ablation.results.schema.TABLES`."""
        return self.kind.table_of(self.settings.root.ablation)

    def identity(self, weights: str) -> Identity:
        """What identifies the run, given what identifies its weights."""
        return identify(
            self.settings.plain, condition=self.condition, data=self.corpus.content_hash,
            splits=self.corpus.split_hash, weights=weights, inputs=self.kind.inputs(self.settings.root.ablation),
        )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A run that can start.

    Attributes:
        light: what was known without the model.
        identity: what the run is.
        network: the model.
        device: the torch device.
        tokens: the examples' tokens, in their order.
        metrics: what is measured, the primary metric first.
        legs: what to run.
        skipped: the examples that were left out on request, with the reason.
        selection: which rows could be served and kept before that.
    """

    light: Light
    identity: Identity
    network: Network
    device: str
    tokens: Sequence[TokenizedExample]
    metrics: Sequence[Metric]
    legs: Sequence[Leg]
    skipped: Sequence[str] = ()
    selection: Selection = field(default_factory=lambda: Selection(()))


def prepare_light(settings: Settings) -> Light:
    """Check what can be checked without a model.

    Raises:
        ConfigError: a setting is wrong.
        DataError: the corpus cannot be used.
    """
    root = settings.root
    kind = find_kind(root.ablation.kind)
    kind.check(root.ablation)
    chosen_metric_names(root.metrics)
    corpus = load_corpus(root.dataset, root.seed)
    examples = select(corpus, root.dataset.split, root.dataset.n_examples, root.seed)
    draws = ["prompts"] if corpus.seeded else []
    if root.dataset.n_examples is not None and len(select(corpus, root.dataset.split, None, root.seed)) > len(
        examples
    ):
        draws.append("examples")
    draws += kind.drawn(root.ablation, len(corpus.examples) - len(examples))
    condition = root.condition or root.dataset.name
    return Light(settings, kind, corpus, examples, condition, ", ".join(draws) or "none")


def prepare_run(light: Light) -> Prepared:
    """Load the model, tokenise and plan.

    Raises:
        UserError: the model, the device or a row cannot be used; nothing has been written.
    """
    root = light.settings.root
    set_up_torch(root.device)
    device = resolve_device(root.device)
    prepare(root.model)
    identity = light.identity(weights_id(root.model) or "unknown")
    network = build_network(load_model(root.model, device=device, dtype=root.device.dtype.value))
    served = serve(root, light.corpus, light.examples, network.model)
    light = replace(light, examples=[t.example for t in served.tokens])
    selection = keep(root, network, served)
    tokens = selection.tokens
    context = _context(light, network, tokens)
    skips = light.kind.skips(root.ablation, context)
    skipped = [f"{tokens[i].example.id}: {reason}" for i, reason in skips.items()]
    if skips:
        tokens = [t for i, t in enumerate(tokens) if i not in skips]
        context = _context(light, network, tokens)
    legs = light.kind.plan(root.ablation, context)
    metrics = [metric(name) for name in chosen_metric_names(root.metrics)]
    return Prepared(light, identity, network, device, tokens, metrics, legs, skipped, selection)


def _context(light: Light, network: Network, tokens: Sequence[TokenizedExample]) -> PlanContext:
    root = light.settings.root
    return PlanContext(
        network=network,
        clean=[_prompt(t, t.clean_ids, t.marks) for t in tokens],
        corrupt=[_prompt(t, t.corrupt_ids, t.corrupt_marks) for t in tokens],
        groups=[t.example.group for t in tokens],
        templates=[t.example.template for t in tokens],
        seed=root.seed,
        full=root.metrics.span is Span.full,
        reference=partial(reference_set, light, network),
    )


def reference_set(light: Light, network: Network, n: int) -> ReferenceSet:
    """At most `n` examples of the corpus that are not evaluated, drawn by the seed, in corpus order.

    Raises:
        ConfigError: the run evaluates the whole corpus.
    """
    evaluated = {example.id for example in light.examples}
    rest = [
        pair
        for pair in zip(light.corpus.examples, light.corpus.splits, strict=True)
        if pair[0].id not in evaluated
    ]
    split = {example.id: name for example, name in rest}
    served = servable(
        [example for example, _ in rest], network.model.tokenizer, prepend_bos=network.model.prepend_bos,
        span=light.settings.root.metrics.span,
    ).examples  # fmt: skip
    if not served:
        raise ConfigError(
            "ablation: means are taken over examples that are not evaluated, and this run evaluates the whole corpus; "
            "set dataset.n_examples, or dataset.split=test"
        )
    order = generator(light.settings.root.seed, "reference").permutation(len(served))[:n]
    drawn = [served[i] for i in sorted(order.tolist())]
    return ReferenceSet(
        prompts=[_prompt(t, t.clean_ids, t.marks) for t in drawn],
        templates=[t.example.template for t in drawn],
        splits=[split[t.example.id] for t in drawn],
        available=len(served),
    )


def chosen_metric_names(cfg: MetricsConfig) -> list[str]:
    """The metrics of a run, the primary one first.

    Raises:
        ConfigError: a name is unknown, is not defined for the span, or the primary metric is not among them.
    """
    default = "seq_logprob_diff" if cfg.span is Span.full else "logit_diff"
    names = cfg.names or [name for name in metric_names() if metric(name).span == cfg.span.value]
    wrong = [name for name in names if metric(name).span != cfg.span.value]
    if wrong:
        raise ConfigError(
            f"metrics.names: {', '.join(wrong)} is not defined for metrics.span={cfg.span.value}"
        )
    primary = cfg.primary or (default if default in names else names[0])
    if primary not in names:
        raise ConfigError(f"metrics.primary={primary} is not among metrics.names={names}")
    return [primary, *(name for name in names if name != primary)]


def _prompt(tokens: TokenizedExample, ids: tuple[int, ...], marks: dict[str, tuple[int, ...]]) -> Prompt:
    return Prompt(ids, tokens.target_ids, tokens.foil_ids, marks, tokens.example.id)
