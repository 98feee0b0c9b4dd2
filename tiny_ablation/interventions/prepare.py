"""From a checked config to everything a run needs, refusing what cannot work before anything is written.

The order is by cost: settings, then the corpus, then the device, then the model, then its tokens, then the plan; so that a
mistake is told as early as it can be.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from tiny_ablation.config.identity import Identity
from tiny_ablation.config.schema import Span
from tiny_ablation.config.seeds import generator
from tiny_ablation.data.corpus import select
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.errors import ConfigError
from tiny_ablation.interventions.baseline import prompt_of
from tiny_ablation.interventions.examples import Selection, keep, servable_by, serve
from tiny_ablation.interventions.light import Light, metric_names_of
from tiny_ablation.interventions.plan import Leg, PlanContext, ReferenceSet
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.device import resolve_device, set_up_torch
from tiny_ablation.models.loader import load_model
from tiny_ablation.models.network import Network, build_network


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
        held_out: the same run on the split that confirms its strongest sites (`stats.confirm`); None where none does.
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
    held_out: "Prepared | None" = None


def prepare_run(light: Light) -> Prepared:
    """Load the model, tokenise and plan.

    Raises:
        UserError: the model, the device or a row cannot be used; nothing has been written.
    """
    root = light.settings.root
    with _without_collections():
        set_up_torch(root.device)
        device = resolve_device(root.device)
        network = build_network(load_model(root.model, device=device, dtype=root.device.dtype.value))
    identity = light.identity(
        network.model.weights_hash
    )  # of what was loaded, not of what the disk holds by now
    main = _planned(light, identity, network, device)
    if root.stats.confirm is None:
        return main
    return replace(main, held_out=_planned(_held_out(light), identity, network, device))


@contextmanager
def _without_collections() -> Iterator[None]:
    """Within: no search for cyclic garbage. Loading libraries makes a million objects, and searching them takes a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _held_out(light: Light) -> Light:
    """The run on the split that confirms, with every site planned."""
    root = light.settings.root
    assert root.stats.confirm is not None
    dataset = replace(root.dataset, split=root.stats.confirm, n_examples=root.stats.confirm_examples)
    ablation = light.kind.unscreened(root.ablation)
    root = replace(root, dataset=dataset, ablation=ablation)
    examples = select(light.corpus, dataset.split, dataset.n_examples, root.seed)
    return replace(light, settings=replace(light.settings, root=root), examples=examples)


def _planned(light: Light, identity: Identity, network: Network, device: str) -> Prepared:
    root = light.settings.root
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
    metrics = [metric(name) for name in metric_names_of(root)]
    return Prepared(light, identity, network, device, tokens, metrics, legs, skipped, selection)


def _context(light: Light, network: Network, tokens: Sequence[TokenizedExample]) -> PlanContext:
    root = light.settings.root
    return PlanContext(
        network=network,
        clean=[prompt_of(t) for t in tokens],
        corrupt=[prompt_of(t, corrupt=True) for t in tokens],
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
    usable = servable_by(
        network.model, [example for example, _ in rest], light.settings.root.metrics.span
    ).examples
    if not usable:
        raise ConfigError(
            "ablation: means are taken over examples that are not evaluated, and this run evaluates the whole corpus; "
            "set dataset.n_examples, or dataset.split=test"
        )
    order = generator(light.settings.root.seed, "reference").permutation(len(usable))[:n]
    drawn = [usable[i] for i in sorted(order.tolist())]
    return ReferenceSet(
        prompts=[prompt_of(t) for t in drawn],
        templates=[t.example.template for t in drawn],
        splits=[split[t.example.id] for t in drawn],
        available=len(usable),
    )
