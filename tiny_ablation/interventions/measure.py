"""Work the legs of a run through, batch by batch, keeping each finished batch on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiny_ablation.config.identity import hash_json
from tiny_ablation.interventions.plan import Leg
from tiny_ablation.interventions.prepare import Prepared
from tiny_ablation.results.rundir import RunDir

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.engine.executor import BatchResult, Executor

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """What a leg gave, for the examples that were finished.

    Attributes:
        leg: what was run.
        examples: (n,) indices of the finished examples, ascending; all of them unless the run was stopped.
        values: for each metric (n_rows, n), float64.
        baseline: for each metric (n,), float64.
        top1: (n_rows, n) int64, the most probable next token.
        top1_baseline: (n,) int64.
    """

    leg: Leg
    examples: "np.ndarray"
    values: "dict[str, np.ndarray]"
    baseline: "dict[str, np.ndarray]"
    top1: "np.ndarray"
    top1_baseline: "np.ndarray"


class Stopped(Exception):
    """The run was interrupted; carries what was finished, which may be nothing."""

    def __init__(self, measured: list[Measured]) -> None:
        super().__init__("interrupted")
        self.measured = measured


def executors(prepared: Prepared) -> "list[Executor]":
    """One executor per leg, over the rows that have to be run."""
    from tiny_ablation.engine.executor import Executor

    root = prepared.light.settings.root
    return [
        Executor(
            prepared.network, leg.prompts, [row.intervention for row in leg.rows if row.intervention], prepared.metrics,
            full=root.metrics.span.value == "full", batch_tokens=root.device.batch_tokens,
        )
        for leg in prepared.legs
    ]  # fmt: skip


def measure(prepared: Prepared, rundir: RunDir, work: "Sequence[Executor]", tick: Progress) -> list[Measured]:
    """Run every leg; finished batches that stand in the run directory are not computed again.

    Args:
        prepared: the run.
        rundir: its directory, which this process has locked.
        work: `executors(prepared)`.
        tick: called with the number of interventions x examples that were finished.

    Raises:
        Stopped: Ctrl-C or SIGTERM; it carries what was finished.
    """
    store = rundir.partial(_batching_digest(prepared, work))
    if not prepared.light.settings.root.resume:
        store.clear()
    shards: dict[int, dict[str, np.ndarray]] = {}
    try:
        done = store.done()
        for index, (executor, batch) in enumerate((e, b) for e in work for b in range(len(e.batches))):
            if index in done:
                shards[index] = store.load(index)
            else:
                shards[index] = _arrays(executor.run(batch))
                store.save(index, shards[index])
            tick(shards[index]["top1"].size)
    except KeyboardInterrupt:
        raise Stopped(_assemble(prepared, work, shards)) from None
    return _assemble(prepared, work, shards)


def _batching_digest(prepared: Prepared, work: "Sequence[Executor]") -> str:
    """Identity of the batches: the run, and how its prompts were laid out, which machine settings may change."""
    layout = [[(list(b.examples), b.n_nodes, b.sees is None) for b in executor.batches] for executor in work]
    return hash_json([prepared.identity.digest, layout])


def _arrays(result: "BatchResult") -> "dict[str, np.ndarray]":
    import numpy as np

    out = {"examples": np.array(result.examples), "top1": result.top1.numpy(), "top1_baseline": result.top1_baseline.numpy()}
    for name in result.values:
        out[f"values/{name}"] = result.values[name].numpy()
        out[f"baseline/{name}"] = result.baseline[name].numpy()
    return out


def _assemble(
    prepared: Prepared, work: "Sequence[Executor]", shards: "dict[int, dict[str, np.ndarray]]"
) -> list[Measured]:
    """Put the finished batches together, in the order of the examples."""
    out, first = [], 0
    for leg, executor in zip(prepared.legs, work, strict=True):
        mine = [shards[i] for i in range(first, first + len(executor.batches)) if i in shards]
        first += len(executor.batches)
        if mine:
            out.append(_with_known_rows(_join(leg, mine)))
    return out


def _join(leg: Leg, shards: "list[dict[str, np.ndarray]]") -> Measured:
    import numpy as np

    joined = {key: np.concatenate([s[key] for s in shards], axis=-1) for key in shards[0]}
    order = np.argsort(joined["examples"], kind="stable")
    joined = {key: array[..., order] for key, array in joined.items()}
    pick = lambda prefix: {k.removeprefix(prefix): v for k, v in joined.items() if k.startswith(prefix)}  # noqa: E731
    return Measured(
        leg, joined["examples"], pick("values/"), pick("baseline/"), joined["top1"], joined["top1_baseline"]
    )


def _with_known_rows(measured: Measured) -> Measured:
    """Add the rows that are the baseline by definition and were not run."""
    import numpy as np

    run = np.array([row.intervention is not None for row in measured.leg.rows])

    def spread(values: "np.ndarray", known: "np.ndarray") -> "np.ndarray":
        out = np.repeat(known[None], len(run), axis=0)
        out[run] = values
        return out

    return replace(
        measured,
        values={name: spread(v, measured.baseline[name]) for name, v in measured.values.items()},
        top1=spread(measured.top1, measured.top1_baseline),
    )
