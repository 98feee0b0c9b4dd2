"""Show a data set as a model reads it: counts, splits, token lengths, rows with their tokens and named positions.

Only the model's tokenizer is loaded, unless --baseline asks how well the model does.

  tiny-ablate data dataset=ioi
  tiny-ablate data dataset=file dataset.path=mine.csv model=gpt2
  tiny-ablate data dataset=sva dataset.n_examples=null --baseline

With --baseline each row that is shown has the token that the model finds likeliest behind its prompt (`answer`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tiny_ablation.commands._behaviour import behaviour, load_network, run_clean, template_lines, told
from tiny_ablation.commands._compose import compose
from tiny_ablation.commands._console import add_overrides, parser, say, say_json, table
from tiny_ablation.config.schema import RootConfig
from tiny_ablation.data.corpus import family_of, split_of
from tiny_ablation.data.text import SHOWN, token_text
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.run.baseline import Baseline

_BARS = 40  # columns of the longest bar
_BINS = 16


def main(args: list[str]) -> int:
    """Show one data set."""
    flags = parser("data", __doc__)
    add_overrides(flags)
    flags.add_argument("--baseline", action="store_true", help="also run the model on the examples of a run, per template")
    flags.add_argument("--json", action="store_true", help="print everything as JSON")
    given = flags.parse_intermixed_args(args)
    content = _content(compose(given.overrides).root, with_baseline=given.baseline)
    if given.json:
        say_json(content)
    else:
        say(*_text(content))
    return 0


def _content(root: RootConfig, *, with_baseline: bool) -> dict[str, Any]:
    """Everything that is shown, as JSON values."""
    from tiny_ablation.models.loader import load_tokenizer
    from tiny_ablation.models.opening import described

    family = family_of(root.dataset)
    network = load_network(root) if with_baseline else None
    model = network.model if network else load_tokenizer(root.model)
    seen = behaviour(root, model)
    corpus, splits = seen.corpus, Counter(seen.corpus.splits)
    shown = seen.draw(min(SHOWN, seen.n_scorable)) if seen.n_scorable else []
    measured, answers = None, {}
    if network:
        drawn = seen.draw(root.dataset.n_examples)
        found = run_clean(root, network, drawn)
        measured, answers = told(root, drawn, found), _top1(drawn, found)
        if rest := [t for t in shown if t.example.id not in answers]:
            answers |= _top1(rest, run_clean(root, network, rest))
    return {
        "dataset": corpus.name,
        "family": corpus.family,
        "description": family.description,
        "prompts": f"drawn by seed {root.seed}" if corpus.seeded else "written",
        "n": len(corpus.examples),
        "n_groups": len({e.group for e in corpus.examples}),
        "n_templates": len({e.template for e in corpus.examples}),
        "splits": {name: splits[name] for name in ("train", "dev", "test")},
        "content_hash": corpus.content_hash,
        "split_hash": corpus.split_hash,
        "model": root.model.name,
        "opening": described(model.tokenizer, model.opening),
        "split": root.dataset.split.value,
        "scorable": seen.n_scorable,
        "unscorable": seen.unscorable,
        "token_lengths": seen.lengths,
        "rows": [_row(t, model.tokenizer, answers.get(t.example.id)) for t in shown],
        "baseline": measured,
    }


def _top1(tokens: Sequence[TokenizedExample], found: Baseline) -> dict[str, int]:
    """The likeliest next token behind each prompt, by id."""
    return dict(zip((t.example.id for t in tokens), found.top1.tolist(), strict=True))


def _row(tokens: TokenizedExample, tokenizer: Any, answer: int | None) -> dict[str, Any]:
    """A row with its tokens and positions; with what the model answers, where it was run."""
    example = tokens.example
    shown = {name: getattr(tokens, f"{name}_ids") for name in ("clean", "corrupt", "target", "foil")}
    if example.has_sets:
        shown |= {"targets": tokens.right_ids, "foils": tokens.wrong_ids}
    pieces = {name: [token_text(tokenizer, i) for i in ids] for name, ids in shown.items()}
    return {
        "id": example.id,
        "split": split_of(example),
        "group": example.group,
        "template": example.template,
        **pieces,
        "positions": {name: list(places) for name, places in tokens.marks.items()},
        **({} if answer is None else {"answer": token_text(tokenizer, answer)}),
    }


def _text(content: dict[str, Any]) -> Iterator[str]:
    """What is shown without --json."""
    sizes = ", ".join(f"{name} {n}" for name, n in content["splits"].items())
    yield f"{content['dataset']}: {content['description']}"
    labels = f"{content['n_groups']} groups and {content['n_templates']} templates"
    yield f"  {content['n']} examples, {content['prompts']}, in {labels}"
    yield f"  splits    {sizes}"
    yield f"  content   {content['content_hash']}"
    yield f"  tokenizer {content['model']}; special tokens that every prompt begins with: {content['opening']}"
    yield ""
    yield f"Tokens of the clean prompt, {content['scorable']} rows of split {content['split']}"
    yield from _histogram(content["token_lengths"])
    lost = content["unscorable"]
    yield ""
    yield f"{len(lost)} rows cannot be scored" + (":" if lost else "")
    for row, reason in islice(lost.items(), SHOWN):
        yield f"  {row}: {_plain(reason)}"
    if len(lost) > SHOWN:
        yield f"  and {len(lost) - SHOWN} more, which --json lists"
    yield ""
    yield "Rows: tokens between bars; named positions, counted from 0"
    for row in content["rows"]:
        yield from _row_text(row)
    if found := content["baseline"]:
        yield ""
        yield f"Baseline on {found['n']} examples of a run: {found['verdict']}; accuracy: {found['accuracy_means']}"
        for name in ("accuracy", "preference", "logit_diff", "prob_diff", "seq_logprob_diff"):
            if name in found:
                said = "target > foil" if name == "preference" else name
                yield "  {}  {mean:.3f}  [{ci_low:.3f}, {ci_high:.3f}]".format(f"{said:<16}", **found[name])
        yield ""
        yield from table(template_lines(found))


def _histogram(lengths: dict[int, int]) -> Iterator[str]:
    if not lengths:
        yield "  none"
        return
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // _BINS)
    bins = Counter({(n - low) // width: 0 for n in range(low, high + 1)})
    for length, count in lengths.items():
        bins[(length - low) // width] += count
    most = max(bins.values())
    for index in sorted(bins):
        first = low + index * width
        label = str(first) if width == 1 else f"{first}-{min(first + width - 1, high)}"
        yield f"  {label:>7}  {bins[index]:>6}  {'#' * -(-_BARS * bins[index] // most)}".rstrip()


def _row_text(row: dict[str, Any]) -> Iterator[str]:
    names = ("targets", "foils") if "targets" in row else ("target", "foil")
    rest = {name: f" and {len(row[name]) - SHOWN} more" if len(row[name]) > SHOWN else "" for name in names}
    answers = " not ".join(_bars(row[name][:SHOWN]) + rest[name] for name in names if row[name])
    yield ""
    yield _plain(f"  {row['id']}  {row['split']}, {row['template'] or row['group']}")
    yield f"    clean    {_bars(row['clean'])} -> {answers}"
    if "answer" in row:
        yield f"    answer   {_bars([row['answer']])}"
    if row["corrupt"]:
        yield f"    corrupt  {_bars(row['corrupt'])}"
    named = (f"{name} {_span(places)} {_bars([row['clean'][i] for i in places])}" for name, places in row["positions"].items())
    yield f"    named    {'   '.join(named)}"


def _bars(pieces: Sequence[str]) -> str:
    return f"|{'|'.join(map(_plain, pieces))}|"


def _span(places: Sequence[int]) -> str:
    if len(places) < 2 or list(places) != list(range(places[0], places[-1] + 1)):
        return ",".join(map(str, places))
    return f"{places[0]}-{places[-1]}"


def _plain(text: str) -> str:
    """The text on one line and without control characters, which a corpus may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
