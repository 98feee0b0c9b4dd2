"""Cut attention edges between tokens, in a window of layers at a time: through which layers does what reach the answer?

`subject to last` cuts what the last token attends to at the subject: its attention scores there become minus infinity before
the softmax, in all heads of the window, so that the rest of what it sees takes their share (Geva et al. 2023, "Dissecting
recall of factual associations in auto-regressive language models", section 4, with windows of nine layers). An effect says
that the answer needs what passes along these edges in these layers; what passes at other layers, or by way of other tokens,
is not touched, so an edge without an effect may still carry what others carry too.

Tokens are called `first` (of the prompt), `subject`, `last` (the answer position), `rest` (none of these) and `all`. A token
always sees itself: `all to last` leaves the last token itself alone, and `first to all` the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiny_ablation.ablations.shared.prompt_pairs import require_mark
from tiny_ablation.ablations.shared.sites import chosen_layers, window_around
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.data.text import listing
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.run.plan import Ablation, Arm, InterventionSpec, PlanContext, Row

TOKENS = ("first", "subject", "last", "rest", "all")


@dataclass
class AttnKnockoutConfig(AblationConfig):
    """`ablation` keys of attn_knockout."""

    edges: list[str] = key(
        ["subject to last", "rest to last", "first to last"],
        help="what is cut, such as `subject to last`: last does not see subject; of first, subject, last, rest and all",
    )
    layers: list[int] | None = key(None, help="the middles of the windows; null: all")
    window: int = key(9, help="layers in which the edges are cut together; 1 cuts one layer at a time", least=1)


class AttnKnockout(Ablation):
    """See the module."""

    name = "attn_knockout"
    table = "position_impact"
    config = AttnKnockoutConfig

    def check(self, cfg: AttnKnockoutConfig) -> None:
        """Refuse an empty list, unknown names, and the same edges twice."""
        if not cfg.edges:
            raise ConfigError("ablation.edges is empty; name at least one, such as [subject to last]")
        for edge in cfg.edges:
            _ends(edge)
        if len({_ends(edge) for edge in cfg.edges}) < len(cfg.edges):
            raise ConfigError(f"ablation.edges={cfg.edges}: the same edges stand there twice")

    def plan(self, cfg: AttnKnockoutConfig, context: PlanContext) -> list[Arm]:
        """A row for each window and edge."""
        edges = [_ends(edge) for edge in cfg.edges]
        if any("subject" in edge or "rest" in edge for edge in edges):
            require_mark(context.clean, "subject", f"ablation.edges={cfg.edges}")
        prompts = []  # with marks for `first` and `rest`
        for prompt in context.clean:
            named = {0, prompt.last, *prompt.marks.get("subject", ())}
            rest = tuple(p for p in range(len(prompt.ids)) if p not in named)
            prompts.append(replace(prompt, marks={**prompt.marks, "first": (0,), "rest": rest}))
        for edge in edges:
            _require_edges(prompts, *edge)
        rows, cut, attending = [], Cut(), context.shape.layers_with("z")
        together = "single" if cfg.window == 1 else f"window of {cfg.window} layers"
        for layer in chosen_layers(cfg.layers, context.shape, "z"):
            window = [at for at in window_around(layer, cfg.window, context.shape.n_layers) if at in attending]
            for seen, sees in edges:
                name = f"{seen} to {sees}"
                key = {"layer": layer, "position": name, "granularity": "attention edges"}
                edits = tuple(Edit("scores", at, None, cut, sees, keys=seen) for at in window)
                described = InterventionSpec("attention edges", "scores", cut.name, name, "clean", together)
                rows.append(Row(key, Intervention(edits), described))
        return [Arm(prompts, rows)]


def _ends(edge: str) -> tuple[str, str]:
    """What is seen and what sees it.

    Raises:
        ConfigError: it is not two names.
    """
    seen, between, sees = edge.strip().partition(" to ")
    ends = seen.strip(), sees.strip()
    if not between or not set(ends) <= {*TOKENS}:
        raise ConfigError(
            f"ablation.edges: {edge!r} is not two of {', '.join(TOKENS)} with `to` between them, such as `subject to last`: "
            "last does not see subject"
        )
    return ends


def _require_edges(prompts: Sequence[Prompt], seen: str, sees: str) -> None:
    """Refuse edges that a prompt does not have.

    Raises:
        DataError: names the examples.
    """
    none = []
    for prompt in prompts:
        keys, queries = ([p for p in range(len(prompt.ids)) if prompt.covers(end, p)] for end in (seen, sees))
        none += [] if keys and queries and min(keys) < max(queries) else [prompt.name]
    if none:
        raise DataError(
            f"ablation.edges: {len(none)} of {len(prompts)} examples have no edges {seen} to {sees}, since a token sees what "
            f"comes before it: {listing(none)}; write what is seen first, as in `first to last`, or choose other edges"
        )


ABLATIONS = (AttnKnockout(),)
