"""The typed schema of every config key; the YAML files in `conf/` only choose values.

Hydra merges the YAML into these dataclasses, so an unknown key, a wrong type or an unknown option is refused while the
config is composed, before anything heavy is imported. Each field says what its key means and what it may be, and whether it
defines a run's result (see `tiny_ablation.config.keys`).
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from tiny_ablation.config.choices import (
    DeviceName,
    DType,
    EffectSign,
    Fdr,
    Keep,
    ModelSource,
    OnBug,
    SaeArchitecture,
    SetOperation,
    Span,
    Split,
    TrackingBackend,
    Unscorable,
    VerifyMode,
    Weights,
)
from tiny_ablation.config.composition import share_compositions
from tiny_ablation.config.hydra_fit import fit_hydra, register_resolvers
from tiny_ablation.config.keys import key
from tiny_ablation.config.trust import guard_configs


@dataclass
class ModelConfig:
    """One model."""

    name: str = key(MISSING, help="the name in tables and paths")
    source: ModelSource = key(MISSING)
    repo: str | None = key(None, help="hub: `owner/name`")
    id: str | None = key(None, help="model=hub: the same, `owner/name`")
    revision: str | None = key(None, help="hub: branch, tag or commit")
    path: str | None = key(None, help="local: a directory, or a .gguf file; its content identifies the model", identity=False)
    base: str | None = key(
        None,
        help="of a LoRA adapter: its base, a directory or `owner/name`; null: what its adapter_config.json names",
        identity=False,
    )
    weights: Weights = key(Weights.raw)
    quantization: str | None = key(
        None, help="round the weights of linear maps to so many bits (extra `quantization`); null: as they are"
    )
    prepend_bos: str | bool = key(
        "auto",
        help="auto: prompts begin as the tokenizer begins a text; true: with its BOS token; false: with nothing",
        choices=("auto", "true", "false"),
    )
    trust_remote_code: bool = key(False, help="run code that comes with a hub model; off unless you have read it")
    seed: int = key(0, help="toy, planted: draws the weights; tracr: those of the decoys", least=-(2**63), most=2**63 - 1)
    shape: str = key(
        "llama",
        help="toy: llama, gpt2 or neox, whose layout it has; planted: induction, induction_pair or planted; "
        "tracr: dyck, histogram, reverse or sort",
    )


@dataclass
class DatasetConfig:
    """One corpus of prompt pairs, and the part of it to use."""

    name: str = key(MISSING, help="the name in tables and paths")
    family: str = key(MISSING, help="a corpus or generator in tiny_ablation/data, or `file`")
    path: str | None = key(
        None, help="file: FILE, a directory of `datasets`, or hub:OWNER/NAME; its content identifies it", identity=False
    )
    fields: dict[str, str | None] = key({}, help="file: {ours: the file's}", identity=False)
    allow_answer_in_prompt: bool = key(False, help="file: accept prompts that contain their own answer")
    allow_trailing_space: bool = key(False, help="file: accept prompts that end in white space")
    chat: bool = key(False, help="file: rows are conversations, rendered by the model's own chat template")
    answer_prefix: str = key("", help="chat: what the model's answer begins with, before the target")
    corruption: str | None = key(None, help="how the corrupt prompt differs; null is the family's first kind")
    relations: list[str] | None = key(None, help="use only rows of these relations; null is all")
    split: Split = key(Split.all)
    n_examples: int | None = key(None, help="how many are drawn with the seed; null is all", least=1)
    unscorable: Unscorable | None = key(None, help="null: refuse in a file of yours, skip in a family that ships with the tool")
    common_rows: Any = key(
        None, help="use only rows that these models serve too: a list of model configs; true: those of the sweep"
    )
    keep: Keep = key(Keep.all)


@dataclass
class AblationConfig:
    """What is intervened on; each ablation adds its own keys (see tiny_ablation/ablations)."""

    kind: str = key(MISSING, help="the ablation, which the option `ablation=NAME` sets")


@dataclass
class SaeConfig:
    """A sparse autoencoder: one that exists (`path`, or `release` and `id`), or how to train one."""

    path: str | None = key(None, help="a directory in SAELens' format; its content identifies it", identity=False)
    release: str | None = key(None, help="a release that SAELens knows, or a repository on the hub")
    id: str | None = key(None, help="which autoencoder of the release")
    other_model: bool = key(False, help="take one that was trained on a model of another name")
    component: str | None = key(
        None,
        help="null: resid_post, or what it was trained on",
        choices=("resid_post", "resid_pre", "attn_out", "mlp_out", "z"),
    )
    layer: int | None = key(None, help="null: the middle one, or what it was trained on")
    architecture: SaeArchitecture = key(SaeArchitecture.batchtopk)
    width: int | None = key(None, help="features; null: twice as many as the activation has dimensions", least=1)
    k: int = key(46, help="topk, batchtopk: active features a token (batchtopk: on average)", least=1)
    sparsity: float = key(
        1.0, help="standard, jumprelu: coefficient of the sparsity loss, over activations of norm sqrt(width)", least=0
    )
    corpus: str | None = key(
        None,
        help="FILE, DIR or hub:OWNER/NAME; null: the interpreter's documentation; its content identifies it",
        identity=False,
    )
    tokens: int = key(200_000, help="of text to train on; the same activations are used again in every epoch", least=1)
    own_samples: int = key(32, help="texts of the model's own to train on besides", least=0)
    context: int = key(128, help="tokens that the model sees at once", least=2)
    held_out: int = key(16_384, help="tokens of text that quality is measured on", least=1)
    steps: int = key(2500, help="training steps", least=1)
    batch: int = key(1024, help="activations in a step", least=1)
    lr: float = key(2e-3, help="learning rate", above=0)
    checkpoint_every: int = key(500, help="steps between checkpoints", least=1, identity=False)


@dataclass
class DeviceConfig:
    """The machine: where and how precisely to compute. Only `dtype` is part of a run's identity."""

    name: DeviceName = key(DeviceName.auto, identity=False)
    index: int | None = key(
        None, help="which GPU, modulo how many; null: workers of a sweep take turns", least=0, identity=False
    )
    map: str | None = key(
        None,
        help="auto: spread the model over GPUs, then memory, then disk; null: one device",
        choices=("auto",),
        identity=False,
    )
    cpu_memory: str | None = key(
        None, help="device.map: of the weights, how much stays in memory, such as 8GB; null: what is free", identity=False
    )
    gpu_memory: str | None = key(
        None, help="device.map: of the weights, how much goes on each GPU; null: what is free", identity=False
    )
    dtype: DType = key(DType.float32)
    threads: int | None = key(None, help="CPU threads; null leaves torch's choice", least=1, most=1024, identity=False)
    batch_tokens: int = key(2048, help="tokens in one forward pass; halved when memory runs out", least=1, identity=False)
    deterministic: bool = key(True, help="ask torch for deterministic kernels", identity=False)


@dataclass
class VerifyConfig:
    """The slice that is computed again on a better device or precision."""

    mode: VerifyMode = key(VerifyMode.auto)
    n_examples: int | None = key(4, help="the shortest, longest, last and random ones; null is all", least=1)
    n_sites: int | None = key(6, help="strongest, weakest and random ones, shared out over the arms; null is all", least=1)
    on_bug: OnBug = key(OnBug.fail)


@dataclass
class MetricsConfig:
    """What is measured at the answer."""

    names: list[str] | None = key(None, help="null: every metric that is defined for the span")
    primary: str | None = key(
        None, help="ranks sites in tables and figures; null: the family's (mostly logit_diff), or seq_logprob_diff"
    )
    span: Span = key(Span.first)


@dataclass
class GenerateConfig:
    """What the model writes behind each prompt under every intervention, and how it is read, with `metrics.span=text`."""

    max_new_tokens: int = key(16, help="it ends there, at the end of the text, or at `stop`", least=1)
    temperature: float = key(
        0.0, help="0: the most probable token each time; above: sampled, with the same draws under every intervention", least=0
    )
    stop: list[str] | None = key(None, help="texts that end it and are not part of it, such as a line break")
    pattern: str | None = key(
        None,
        help="text_match: a regular expression, in which {target} and {foil} are the example's answers; null: {target}, "
        "as whole words",
    )
    max_total: int = key(
        200_000,
        help="refuse a run that may write more tokens: interventions x examples x max_new_tokens",
        least=1,
        identity=False,
    )


@dataclass
class StatsConfig:
    """Intervals and tests."""

    confidence: float = key(0.95, help="confidence level of the intervals", least=0.5, below=1)
    n_boot: int = key(2000, help="bootstrap draws over groups", least=100, most=1_000_000)
    n_perm: int | None = key(
        None, help="draws for p-values; null: as many as the family of tests asks for", least=100, most=100_000_000
    )
    fdr: Fdr = key(Fdr.bh)
    margin: float | None = key(
        None, help="an effect on the primary metric within this, in its unit, does not matter; null: no such test", above=0
    )
    confirm: Split | None = key(None, help="measure the strongest sites again on this split's examples; null: not")
    confirm_top: int = key(10, help="how many sites", least=1)
    confirm_examples: int | None = key(None, help="how many of the split's examples; null is all", least=1)


@dataclass
class TrackingConfig:
    """Where finished runs are published. No failure of tracking can fail a run."""

    backend: TrackingBackend = key(TrackingBackend.mlflow)
    uri: str | None = key(None, help="null: MLFLOW_TRACKING_URI, or else sqlite in the directory the command was started from")
    experiment: str = key("tiny-ablate", help="the experiment that runs are put into")


@dataclass
class ProfileConfig:
    """What is recorded of the machine while a run goes on, in `metrics/profile.json`."""

    power: bool = key(False, help="ask powermetrics (macOS; it needs sudo without a password) for power")


@dataclass
class RunConfig:
    """One run on many processes or machines; see docs/sweeps.md."""

    shards: int = key(
        1,
        help="how many workers take batches of this run, in its directory; -m starts them with any launcher",
        least=1,
        most=10_000,
        identity=False,
    )
    shard: int | None = key(
        None, help="the number of this worker, from 0; set by -m, and stands in the name of its log", least=0, identity=False
    )
    dead_after: float = key(
        120, help="seconds without a sign of life after which others take up a worker's batch", least=1, identity=False
    )


@dataclass
class SweepConfig:
    """What a sweep (-m) computes from its finished runs; a single run does not read it."""

    k: Any = key(10, help="components in a condition's top set: a number, or q0.05 for those with a q-value up to that")
    metrics: list[str] | None = key(None, help="that rank components; null: each run's primary metric")
    op: SetOperation = key(SetOperation.intersection)
    direction: EffectSign = key(EffectSign.both)
    q: float = key(0.05, help="false discovery rate at which a hypothesis is called supported", above=0, below=1)
    # Fewer, and the share of draws says little.
    n_resamples: int = key(200, help="draws of examples, for the stability of sets", least=100, most=100_000)
    confirm: bool = key(False, help="ablate the invariant set at once, and random sets beside it")
    n_control_sets: int = key(100, help="how many random sets", least=1, most=100_000)
    # Any, since the command line adds no keys to a typed dict.
    hypotheses: Any = key(None, help="{name: {test: ...}}; docs/sweeps.md")


@dataclass
class RootConfig:
    """Everything that `tiny-ablate` can be told."""

    model: ModelConfig = key(ModelConfig)
    dataset: DatasetConfig = key(DatasetConfig)
    ablation: AblationConfig = key(AblationConfig)
    device: DeviceConfig = key(DeviceConfig)
    verify: VerifyConfig = key(VerifyConfig)
    metrics: MetricsConfig = key(MetricsConfig)
    generate: GenerateConfig = key(GenerateConfig)
    stats: StatsConfig = key(StatsConfig)
    sae: SaeConfig = key(SaeConfig, identity=False)  # the kinds that use it hold a copy
    tracking: TrackingConfig = key(TrackingConfig, identity=False)
    profile: ProfileConfig = key(ProfileConfig, identity=False)
    run: RunConfig = key(RunConfig, identity=False)
    sweep: SweepConfig = key(SweepConfig, identity=False)
    seed: int = key(
        0,
        help="draws examples, generated prompts, donors, controls and bootstrap samples",
        least=-(2**63),
        most=2**63 - 1,  # what a column of a table holds
    )
    condition: str | None = key(None, help="the label of this run in a sweep; null: what varies, else the dataset")
    resume: bool = key(True, help="continue what stands in the run directory", identity=False)
    experiment: Any = key(None, help="the config group `experiment/`, which sets other keys", identity=False)
    notes: dict[str, Any] = key({}, help="free text for your records", identity=False)


def register() -> None:
    """Put the schema into Hydra's store, under the name that `conf/config.yaml` lists first, and make Hydra fit."""
    from hydra.core.config_store import ConfigStore

    guard_configs()
    fit_hydra()
    share_compositions()
    register_resolvers()
    ConfigStore.instance().store(name="schema", node=RootConfig)
