"""From a checked config to everything a run needs, refusing what cannot work before anything is written.

The order is by cost: settings, then the corpus, then the device, then the model, then its tokens, then the plan; so that a
mistake is told as early as it can be.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial

from tiny_ablation.config.identity import Identity
from tiny_ablation.config.schema import ModelConfig, RootConfig, Span
from tiny_ablation.config.seeds import generator
from tiny_ablation.data.corpus import select
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.engine.decoding import Decoding, end_tokens
from tiny_ablation.engine.layout import all_edits
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric
from tiny_ablation.metrics.written import Asked
from tiny_ablation.models.device import resolve_device, set_up_torch
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.identity import prepare
from tiny_ablation.models.loader import LoadedModel, load_model
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.models.placed import placement
from tiny_ablation.run.baseline import prompt_of
from tiny_ablation.run.examples import Selection, draw_scorable, keep, scorable_by
from tiny_ablation.run.plan import Arm, PlanContext, ReferenceSet
from tiny_ablation.run.prompt_form import form_warnings
from tiny_ablation.run.spec import RunSpec, metric_names_of


@dataclass(frozen=True)
class PreparedRun:
    """A run that can start."""

    spec: RunSpec  # what was known without the model
    identity: Identity  # what the run is
    network: Network
    device: str  # the torch device
    tokens: Sequence[TokenizedExample]  # the examples' tokens, in their order
    metrics: Sequence[Metric]  # what is measured, the primary metric first
    arms: Sequence[Arm]  # what to run
    skipped: Sequence[str] = ()  # the examples that were left out on request, with the reason
    selection: Selection = field(default_factory=lambda: Selection(()))  # which rows could be served and kept before that
    decoding: Decoding | None = None  # how text is written, with `metrics.span=text`; else None
    # the same run on the split that confirms its strongest sites (`stats.confirm`); None where none does
    held_out: "PreparedRun | None" = None
    other: Network | None = None  # the second model of the run (`RunSpec.other_model`); None where it has none

    @property
    def networks(self) -> list[Network]:
        """The run's own model, and the second one where it has one."""
        return [self.network, *([self.other] if self.other else [])]


def prepare_run(spec: RunSpec, *, outline: bool = False) -> PreparedRun:
    """Load the model, tokenise and plan; an `outline` is for the cost alone and cannot be measured (`PlanContext.outline`).

    Raises:
        UserError: the model, the device or a row cannot be used; nothing has been written.
    """
    root = spec.settings.root
    with _without_collections():
        networks, device = load_networks(root, spec.other_model)
        for other in spec.others.values():  # whose tokenizers are part of the identity
            prepare(other)
    # Of what was loaded, not of what the disk holds by now.
    identity = spec.identity(*(network.model.weights_hash for network in networks))
    main = _planned(spec, identity, networks, device, outline=outline)
    if root.stats.confirm is None:
        return main
    return replace(main, held_out=_planned(_held_out(spec), identity, networks, device, outline=outline))


def load_networks(root: RootConfig, second: ModelConfig | None = None) -> tuple[list[Network], str]:
    """The model of a run, behind it the second one, where it has one; and the device that they are on."""
    set_up_torch(root.device)
    device = resolve_device(root.device)
    how = {"device": device, "dtype": root.device.dtype.value, "placed": placement(root.device, device)}
    networks = [build_network(load_model(root.model, **how))]
    if second:
        try:
            networks.append(build_network(load_model(second, **how)))
        except ModelError as error:
            raise ModelError(f"the second model: {error}") from error
        require_alike(*networks)
    return networks, device


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


def _held_out(spec: RunSpec) -> RunSpec:
    """The run on the split that confirms, with every site planned."""
    root = spec.settings.root
    assert root.stats.confirm is not None
    dataset = replace(root.dataset, split=root.stats.confirm, n_examples=root.stats.confirm_examples)
    ablation = spec.ablation.without_screening(root.ablation)
    root = replace(root, dataset=dataset, ablation=ablation)
    examples = select(spec.corpus, dataset.split, dataset.n_examples, root.seed)
    return replace(spec, settings=replace(spec.settings, root=root), examples=examples)


def _planned(spec: RunSpec, identity: Identity, networks: Sequence[Network], device: str, *, outline: bool) -> PreparedRun:
    root, network = spec.settings.root, networks[0]
    served = draw_scorable(root, spec.corpus, spec.examples, network.model)
    spec = replace(spec, examples=[t.example for t in served.tokens])
    selection = replace(keep(root, network, served), warnings=form_warnings(root, network, served.tokens))
    tokens = selection.tokens
    for other in networks[1:]:
        require_same_tokens(other.model, tokens, root)
    context = _context(spec, networks, tokens, outline=outline)
    skips = spec.ablation.excluded_examples(root.ablation, context)
    skipped = [f"{tokens[i].example.id}: {reason}" for i, reason in skips.items()]
    if skips:
        tokens = [t for i, t in enumerate(tokens) if i not in skips]
        context = _context(spec, networks, tokens, outline=outline)
    arms = spec.ablation.plan(root.ablation, context)
    runs = [run for arm in arms for run in arm.runs]
    runs += [arm.base_intervention for arm in arms if arm.base_intervention is not None]
    for component, layer in {(edit.component, edit.layer) for edit in all_edits(runs)}:
        network.hook_point(component, layer)  # refuses a place that the model does not have, or that was not proven
    metrics = [metric(name) for name in metric_names_of(root)]
    decoding = None
    if root.metrics.span is Span.text:
        cfg, tokenizer, examples = root.generate, network.model.tokenizer, [t.example for t in tokens]
        asked = [Asked(e.id, e.clean, e.right, e.wrong, cfg.pattern) for e in examples]
        seeds = [int(generator(root.seed, "sampled tokens", e.id).integers(2**62)) for e in examples]
        ends, stop = end_tokens(network.hf, tokenizer), tuple(cfg.stop or ())
        decoding = Decoding(tokenizer, ends, cfg.max_new_tokens, cfg.temperature, stop, asked, seeds)
        planned = [(arm.prompts, len(arm.runs)) for arm in arms]
        require_room(root, network, planned, outline=outline)
    return PreparedRun(
        spec, identity, network, device, tokens, metrics, arms, skipped, selection, decoding, other=context.other
    )


def _context(spec: RunSpec, networks: Sequence[Network], tokens: Sequence[TokenizedExample], *, outline: bool) -> PlanContext:
    root, network = spec.settings.root, networks[0]
    return PlanContext(
        network=network,
        clean=[prompt_of(t) for t in tokens],
        corrupt=[prompt_of(t, corrupt=True) for t in tokens],
        groups=[t.example.group for t in tokens],
        templates=[t.example.template for t in tokens],
        seed=root.seed,
        full=root.metrics.span is not Span.first,
        reference=partial(reference_set, spec, network),
        outline=outline,
        metric=metric_names_of(root)[0],
        other=networks[1] if networks[1:] else None,
    )


def reference_set(spec: RunSpec, network: Network, n: int) -> ReferenceSet:
    """At most `n` examples of the corpus that are not evaluated, drawn by the seed, in corpus order.

    Raises:
        ConfigError: the run evaluates the whole corpus.
    """
    evaluated = {example.id for example in spec.examples}
    rest = [pair for pair in zip(spec.corpus.examples, spec.corpus.splits, strict=True) if pair[0].id not in evaluated]
    split = {example.id: name for example, name in rest}
    usable = scorable_by(network.model, [example for example, _ in rest], spec.settings.root).examples
    if not usable:
        raise ConfigError(
            "ablation: means are taken over examples that are not evaluated, and this run evaluates the whole corpus; "
            "set dataset.n_examples, or dataset.split=test"
        )
    order = generator(spec.settings.root.seed, "reference").permutation(len(usable))[:n]
    drawn = [usable[i] for i in sorted(order.tolist())]
    return ReferenceSet(
        prompts=[prompt_of(t) for t in drawn],
        templates=[t.example.template for t in drawn],
        splits=[split[t.example.id] for t in drawn],
        available=len(usable),
        corrupt=[prompt_of(t, corrupt=True) for t in drawn],
    )


def require_room(
    root: RootConfig, network: Network, planned: Sequence[tuple[Sequence[Prompt], int]], *, outline: bool = False
) -> None:
    """Refuse continuations that are too long for the model, or more than `generate.max_total` allows."""
    new, context = root.generate.max_new_tokens, network.model.context
    longest = max((len(prompt.ids) for prompts, _ in planned for prompt in prompts), default=0)
    if context is not None and longest + new > context:
        raise ConfigError(
            f"generate.max_new_tokens={new}: the longest prompt has {longest:,} tokens, and the model was made for {context:,} "
            f"in all; write at most {context - longest:,}, or choose shorter prompts"
        )
    cells = sum(len(prompts) * n for prompts, n in planned)
    if not outline and cells * new > root.generate.max_total:
        examples = max(len(prompts) for prompts, _ in planned)
        raise ConfigError(
            f"metrics.span=text: this run may write {cells * new:,} tokens ({cells // max(1, examples):,} interventions on "
            f"{examples:,} examples, up to {new} tokens each), more than generate.max_total={root.generate.max_total:,}. Name "
            "fewer sites (ablation.layers, ablation.heads), take fewer examples (dataset.n_examples) or fewer tokens "
            "(generate.max_new_tokens), or raise generate.max_total; tiny-ablate plan says how long it takes"
        )


def require_alike(first: Network, second: Network) -> None:
    """Refuse two models whose places do not correspond, or that are one and the same."""
    names = f"the models {first.model.name} and {second.model.name}"
    if first.model.weights_hash == second.model.weights_hash:
        raise ModelError(f"{names} have the same weights, so nothing can differ between them")
    faults = [
        f"{each.name} is {a} and {b}"
        for each in fields(ModelShape)
        if (a := getattr(first.shape, each.name)) != (b := getattr(second.shape, each.name))
    ]
    if first.parallel != second.parallel:
        faults.append(f"the MLP stands beside attention in {(first if first.parallel else second).model.name} only")
    faults += _vocabulary(first.model, second.model)
    if faults:
        raise ModelError(
            f"{names} are not of one shape: {'; '.join(faults)}. A value of one can be put into the other only where both have "
            "the same places and tokens"
        )


def _vocabulary(first: LoadedModel, second: LoadedModel) -> list[str]:
    mine, theirs = first.tokenizer.get_vocab(), second.tokenizer.get_vocab()
    other = sorted(token for token in mine.keys() & theirs.keys() if mine[token] != theirs[token])
    found = []
    if other:
        shown = ", ".join(f"{token!r} is {mine[token]} and {theirs[token]}" for token in other[:3])
        found.append(f"{len(other)} tokens have other ids ({shown})")
    elif not mine.keys() & theirs.keys():
        found.append("no token is in both vocabularies")
    if first.opening != second.opening:
        found.append(f"prompts begin with the tokens {list(first.opening)} and {list(second.opening)}")
    return found


def require_same_tokens(other: LoadedModel, tokens: Sequence[TokenizedExample], root: RootConfig) -> None:
    """Refuse a second model whose tokenizer makes other tokens of the run's prompts and answers."""
    served = scorable_by(other, [each.example for each in tokens], root)
    again = {each.example.id: each for each in served.examples}
    wrong = [each.example.id for each in tokens if again.get(each.example.id) != each]
    if wrong:
        raise ModelError(
            f"the tokenizer of {other.name}, the second model, makes other tokens of {len(wrong)} of {len(tokens)} examples, "
            f"{wrong[0]} first: the two models do not read the same prompts"
        )
