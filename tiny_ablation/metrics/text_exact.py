"""Whether the continuation is a right answer and nothing else."""

from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.written import Asked, of_text


def exact(text: str, asked: Asked) -> bool:
    """White space at the ends does not count; `generate.stop` says where an answer ends."""
    return text.strip() in {target.strip() for target in asked.targets}


METRIC = Metric(
    "text_exact",
    "share of examples",
    "the continuation is a right answer",
    of_text(exact),
    span="text",
    worse=-1,
    decides=True,
    less="answers lost",
    more="answers gained",
)
