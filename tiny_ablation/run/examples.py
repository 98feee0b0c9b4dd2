"""From the drawn examples to those that are measured: what every tokenizer can serve, and what the model gets right.

Nothing is left out silently: each row that is goes into `summary.json` with the reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.model_options import model_option
from tiny_ablation.config.schema import DatasetConfig, Keep, RootConfig, Span, Unscorable
from tiny_ablation.data.chat import require_template
from tiny_ablation.data.corpus import FILE, Corpus, select
from tiny_ablation.data.examples import Example
from tiny_ablation.data.text import listing
from tiny_ablation.data.tokens import Servable, TokenizedExample, each_scored, scorable, tokenize
from tiny_ablation.data.tokens import Unscorable as UnscorableRow
from tiny_ablation.errors import DataError
from tiny_ablation.models.loader import LoadedModel, TokenizerOnly, load_tokenizer
from tiny_ablation.run.baseline import CRITERIA, baseline

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network


@dataclass(frozen=True)
class Selection:
    """The examples of a run as the model reads them."""

    tokens: Sequence[TokenizedExample]  # in corpus order
    # for each row of the split that a tokenizer cannot serve, its id and why
    unscorable: Mapping[str, str] = field(default_factory=dict)
    # what `dataset.keep` did, for `summary.json`; empty where it keeps all
    kept: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()  # what may be wrong with the form of the prompts; see `prompt_form`


def draw_scorable(root: RootConfig, corpus: Corpus, drawn: Sequence[Example], model: LoadedModel | TokenizerOnly) -> Selection:
    """Tokenise the drawn examples; the next ones of the draw take the places of rows that cannot be served.

    The tokenizer of `model` is the run's; those of `dataset.common_rows` must serve a row as well.

    Raises:
        DataError: rows cannot be served and may not be skipped, or too few can.
    """
    if _policy(root.dataset) is Unscorable.refuse:
        return Selection(_all(root, drawn, model))
    faults, _ = score_split(root, corpus, model)
    if not faults:
        return Selection(_all(root, drawn, model))
    if len(faults) == len(corpus.of_split(root.dataset.split)):
        reasons = listing([f"{row}: {reason}" for row, reason in faults.items()], separator="; ")
        hint = ". metrics.span=full scores answers of several tokens" if root.metrics.span is Span.first else ""
        raise DataError(f"no row of {corpus.name} can be scored: {reasons}{hint}")
    n = root.dataset.n_examples
    usable = select(corpus, root.dataset.split, n, root.seed, without=faults)
    return Selection(_all(root, usable, model), faults)


def each_scored_by(
    model: LoadedModel | TokenizerOnly, examples: Sequence[Example], root: RootConfig
) -> Iterator[TokenizedExample | UnscorableRow]:
    """Each example as a model can score it, or why it cannot, without keeping them."""
    return each_scored(examples, model.tokenizer, **_how(root, model))


def scorable_by(model: LoadedModel | TokenizerOnly, examples: Sequence[Example], root: RootConfig) -> Servable:
    """Which of the examples a model can score, and which it cannot."""
    return scorable(examples, model.tokenizer, **_how(root, model))


def _how(root: RootConfig, model: LoadedModel | TokenizerOnly) -> dict[str, Any]:
    """How a run's prompts become tokens of a model."""
    if root.dataset.chat:
        require_template(model.name, model.tokenizer)
    return {
        "opening": model.opening,
        "span": root.metrics.span,
        "context": model.context,
        "answer_prefix": root.dataset.answer_prefix,
    }


def score_split(root: RootConfig, corpus: Corpus, model: LoadedModel | TokenizerOnly) -> tuple[dict[str, str], Counter[int]]:
    """By id, in corpus order, why some tokenizer cannot serve a row of the split; and how many others have how many tokens."""
    pool = select(corpus, root.dataset.split, None, root.seed)
    models = [model, *(load_tokenizer(model_option(name)) for name in root.dataset.common_rows or ())]
    faults: dict[str, str] = {}
    lengths = Counter[int]()
    for rows in zip(*(each_scored_by(each, pool, root) for each in models), strict=True):
        for each, row in zip(models, rows, strict=True):
            if isinstance(row, UnscorableRow):
                faults.setdefault(row.id, f"{each.name}: {row.reason}")
        if isinstance(own := rows[0], TokenizedExample) and own.example.id not in faults:
            lengths[own.n_tokens] += 1
    return faults, lengths


def keep(root: RootConfig, network: "Network", selection: Selection) -> Selection:
    """What `dataset.keep` leaves of a selection. Raises DataError: the model gets none of the examples right."""
    if root.dataset.keep is Keep.all:
        return selection
    if root.metrics.span is Span.full and not all(t.example.wrong for t in selection.tokens):
        raise DataError(
            f"dataset.keep=correct: with metrics.span=full an example is right where {CRITERIA[Span.full]}, and some have "
            "none; give them a foil, or take dataset.keep=all"
        )
    correct = baseline(network, selection.tokens, root.metrics.span, root.device.batch_tokens).correct
    tokens = [t for t, right in zip(selection.tokens, correct, strict=True) if right]
    if not tokens:
        raise DataError(
            f"dataset.keep=correct: {root.model.name} gets none of the {len(correct)} examples of {root.dataset.name} right "
            f"({CRITERIA[root.metrics.span]}); take dataset.keep=all, more examples, or another behaviour"
        )
    kept = {
        "rule": root.dataset.keep.value,
        "criterion": CRITERIA[root.metrics.span],
        "n_before": len(correct),
        "n_kept": len(tokens),
        "ids": [t.example.id for t in tokens],
    }
    return Selection(tokens, selection.unscorable, kept)


def _policy(cfg: DatasetConfig) -> Unscorable:
    """Rows of your own file are for you to mend; a family that ships was written for another tokenizer."""
    if cfg.unscorable is not None:
        return cfg.unscorable
    return Unscorable.refuse if cfg.family == FILE and not cfg.common_rows else Unscorable.skip


def _all(root: RootConfig, examples: Sequence[Example], model: LoadedModel | TokenizerOnly) -> list[TokenizedExample]:
    tokens = lambda each: tokenize(examples, each.tokenizer, **_how(root, each))  # noqa: E731
    if root.dataset.common_rows and _policy(root.dataset) is Unscorable.refuse:
        for name in root.dataset.common_rows:
            tokens(load_tokenizer(model_option(name)))
    return tokens(model)
