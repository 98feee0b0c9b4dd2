"""What the runs of a batch come to: metrics of each run and example, refused where the logits are not numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from tiny_ablation.data.text import listing
from tiny_ablation.errors import NumericsError
from tiny_ablation.metrics.readout import Metric, Readout

# Logits that metrics are computed of at once: what they make of 4 MB stays in the processor's caches (on a Zen 4, 6 ns a logit
# with 32 MB, 2 with 4).
LOGITS_AT_ONCE = 2**20


@dataclass(frozen=True)
class BatchResult:
    """What one batch gave."""

    examples: tuple[int, ...]  # indices of its examples
    values: dict[str, Float64[Tensor, "n_interventions n"]]  # for each metric
    baseline: dict[str, Float64[Tensor, "n"]]  # for each metric
    top1: Int64[Tensor, "n_interventions n"]  # the most probable next token
    top1_baseline: Int64[Tensor, "n"]
    # with `metrics.span=text`, the token ids of what was written, -1 behind its end: `written`, with an axis of interventions,
    # and `written_baseline`, without; else empty
    written: dict[str, Int64[Tensor, "max_new_tokens *n_interventions n"]] = field(default_factory=dict)

    @classmethod
    def empty(cls, examples: tuple[int, ...], metrics: Sequence[Metric], n: int, base: Readout) -> "BatchResult":
        """Of `n` runs that are still to come, beside the un-intervened one."""
        size = base.reads.n_examples
        return cls(
            examples,
            {m.name: torch.full((n, size), torch.nan, dtype=torch.float64) for m in metrics},
            {m.name: _measured(m, base, base, ["the un-intervened model"])[0] for m in metrics},
            torch.full((n, size), -1),
            _first_read(base)[0].cpu(),
        )

    def add(
        self,
        metrics: Sequence[Metric],
        chunk: list[int],
        logits: Float[Tensor, "{len(chunk)} n_reads d_vocab"],
        base: Readout,
        labels: list[str],
    ) -> None:
        """Fill in the metrics of the chunk's runs, a few runs at a time so that no copy of all logits is made."""
        at_once = LOGITS_AT_ONCE if logits.device.type == "cpu" else logits.numel()
        step = max(1, at_once // logits[0].numel())
        for start in range(0, len(chunk), step):
            part = Readout(logits[start : start + step], base.reads)
            check_finite(part, labels[start : start + step])
            rows = torch.tensor(chunk[start : start + step])
            for metric in metrics:
                self.values[metric.name][rows] = _measured(metric, part, base, labels[start : start + step])
            self.top1[rows] = _first_read(part).cpu()


def _first_read(readout: Readout) -> Int64[Tensor, "runs n_examples"]:
    """The top token at the first read of each example, the last prompt token."""
    example = readout.reads.example
    first = torch.ones_like(example, dtype=torch.bool)
    first[1:] = example[1:] != example[:-1]
    return readout.top1[:, first]


def check_finite(readout: Readout, labels: Sequence[str]) -> None:
    """Refuse logits that are NaN or infinite; the message names the first run that has them."""
    bad = ~torch.isfinite(readout.log_norm).all(-1)
    if bad.any():
        raise NumericsError(
            f"{labels[int(bad.nonzero()[0])]}: the logits hold NaN or infinity, so no metric is defined; "
            "try device.dtype=float32, and check the weights"
        )


def _measured(
    metric: Metric, readout: Readout, base: Readout, labels: Sequence[str]
) -> Float64[Tensor, "runs {base.reads.n_examples}"]:
    """The metric of each run; refused where it is NaN or infinite, as when an answer is impossible."""
    values = metric.compute(readout, base).double().cpu()
    bad = ~torch.isfinite(values).all(-1)
    if bad.any():
        run = int(bad.nonzero()[0])
        tokens = (readout.logits[run] == -torch.inf).any(0).nonzero().flatten().tolist()
        said = listing([str(token) for token in tokens])
        why = f" (the model gives a logit of minus infinity to tokens {said})" if tokens else ""
        raise NumericsError(
            f"{labels[run]}: {metric.name} is NaN or infinite for an example{why}; leave the metric out of "
            "metrics.names, or the example out"
        )
    return values
