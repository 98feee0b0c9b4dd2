"""Work the arms of a run through, batch by batch, keeping each finished batch on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from tiny_ablation.config.identity import hash_json
from tiny_ablation.config.schema import Span
from tiny_ablation.engine.decoding import Decoding
from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.generation import Generation
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import GuardError
from tiny_ablation.metrics.readout import NUMERICAL_TOLERANCE
from tiny_ablation.models.network import Network
from tiny_ablation.run.plan import Arm
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.store.partial import PartialStore, clear_batches
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.runlog import log
from tiny_ablation.store.schema import at_strongest

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """What an arm gave, for the examples that were finished. Effects are asked for, and subtracted nowhere else."""

    arm: Arm  # what was run
    examples: np.ndarray  # (n,) indices of the finished examples, ascending; all of them unless the run was stopped
    groups: Sequence[str]  # (n,) the cluster of each
    values: dict[str, np.ndarray]  # for each metric (n_rows, n), float64
    baseline: dict[str, np.ndarray]  # for each metric (n,), float64
    top1: np.ndarray  # (n_rows, n) int64, the most probable next token; of the first draw, where a row has several
    top1_baseline: np.ndarray  # (n,) int64
    # for each metric (n_rows, n_draws), the mean over the examples of each draw; empty where rows have one each
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    # with `metrics.span=text`, what was written: `text` (n_rows, n), of the first draw, and `text_baseline` (n,); else empty
    texts: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def ran(self) -> np.ndarray:
        """(n_rows,) bool: the rows that intervene; the others are the baseline by definition."""
        return np.array([row.intervention is not None for row in self.arm.rows], dtype=bool)

    def delta(self, metric: str) -> np.ndarray:
        """(n_rows, n) the effects: value less baseline of the same example."""
        return self.values[metric] - self.baseline[metric]

    def mean_delta(self, metric: str) -> np.ndarray:
        """(n_rows,) the mean effects, over the examples that have a value."""
        return np.nanmean(self.delta(metric), axis=1)

    def at(self, examples: np.ndarray) -> "Measured":
        """The same of these examples alone, all of which were finished; without draws, which are means over all examples."""
        if np.array_equal(examples, self.examples):
            return self
        at = np.searchsorted(self.examples, examples)
        return replace(
            self,
            examples=self.examples[at],
            groups=np.asarray(self.groups)[at].tolist(),
            values={name: values[:, at] for name, values in self.values.items()},
            baseline={name: values[at] for name, values in self.baseline.items()},
            top1=self.top1[:, at],
            top1_baseline=self.top1_baseline[at],
            draws={},
            texts={name: texts[..., at] for name, texts in self.texts.items()},
        )

    def of_rows(self, rows: Sequence[int]) -> "Measured":
        """The same of these rows alone."""
        rows = list(rows)
        return replace(
            self,
            arm=replace(self.arm, rows=[self.arm.rows[i] for i in rows]),
            values={name: values[rows] for name, values in self.values.items()},
            top1=self.top1[rows],
            draws={name: values[rows] for name, values in self.draws.items()},
            texts=self.texts and {**self.texts, "text": self.texts["text"][rows]},
        )

    def strongest(self) -> "Measured":
        """The rows that intervene, at the strongest factor where there are several."""
        ran = self.of_rows(np.flatnonzero(self.ran).tolist())
        scales = np.array([float(row.key.get("scale", 0.0)) for row in ran.arm.rows])
        return ran.of_rows(np.flatnonzero(at_strongest(scales)).tolist())


def aligned(measured: Sequence[Measured]) -> list[Measured]:
    """Each of these at the examples that all of them finished, which may be none."""
    common = reduce(np.intersect1d, [m.examples for m in measured])
    return [m.at(common) for m in measured]


class Stopped(Exception):
    """The run was interrupted; carries what was finished, which may be nothing."""

    def __init__(self, measured: list[Measured]) -> None:
        super().__init__("interrupted")
        self.measured = measured


def executors(prepared: PreparedRun) -> list[Executor]:
    """One executor for all arms that share a baseline, over the rows that have to be run; arms in their order in each."""
    return [
        executor(
            prepared,
            arms[0].prompts,
            [run for arm in arms for run in arm.runs],
            arms[0].base_intervention,
            network=arms[0].network,
        )
        for arms in _by_baseline(prepared.arms)
    ]


def total(work: Sequence[Executor]) -> int:
    """Interventions x examples of these executors, which is what progress counts."""
    return sum(len(executor.plan) * len(executor.prompts) for executor in work)


def executor(
    prepared: PreparedRun,
    prompts: Sequence[Prompt],
    plan: Sequence[Intervention],
    base_intervention: Intervention | None = None,
    network: Network | None = None,
) -> Executor:
    """What measures the run's metrics of interventions on prompts, one for each of its examples; None: on the run's model."""
    root, network = prepared.spec.settings.root, network or prepared.network
    how: dict[str, Any] = {
        "batch_tokens": root.device.batch_tokens,
        "base_intervention": base_intervention,
        "least_batches": 1 if root.run.shards == 1 else 2 * root.run.shards,  # so that workers end at about the same time
    }
    if prepared.decoding is not None:
        return Generation(network, prompts, plan, prepared.metrics, decoding=prepared.decoding, **how)
    full = root.metrics.span is Span.full
    return Executor(network, prompts, plan, prepared.metrics, full, **how)


def _by_baseline(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The arms in groups whose runs differ from the same run of the same prompts."""
    groups: list[list[Arm]] = []
    for arm in arms:
        for group in groups:
            first = group[0]
            alike = (first.network, first.base_intervention) == (arm.network, arm.base_intervention)
            if alike and first.prompts == arm.prompts:
                group.append(arm)
                break
        else:
            groups.append([arm])
    return groups


def measure(prepared: PreparedRun, rundir: RunDir, work: Sequence[Executor], tick: Progress, part: str = "") -> list[Measured]:
    """Run every arm; finished batches that stand in the run directory, which is locked, are not computed again.

    `work` is `executors(prepared)`; `tick` is called with the number of interventions x examples that were finished.

    Raises:
        Stopped: Ctrl-C or SIGTERM; it carries what was finished.
    """
    store = store_of(prepared, rundir, work, part)
    if not prepared.spec.settings.root.resume:
        clear_batches(store.directory)
    shards: dict[int, dict[str, np.ndarray]] = {}
    try:
        done, batches = store.done(), batches_of(work)
        log.info("%d of %d batches were finished before", len(done), len(batches))
        for index, (executor, batch) in enumerate(batches):
            if index in done:
                shards[index] = store.load(index)
                tick(shards[index]["top1"].size)
            else:
                shards[index] = compute(executor, batch, tick)
                store.save(index, shards[index])
    except KeyboardInterrupt:
        raise Stopped(_assemble(prepared, work, shards)) from None
    return _assemble(prepared, work, shards)


def batches_of(work: Sequence[Executor]) -> list[tuple[Executor, int]]:
    """Every batch of a run, in the order of its numbers: the executor, and its number there."""
    return [(executor, batch) for executor in work for batch in range(len(executor.batches))]


def store_of(prepared: PreparedRun, rundir: RunDir, work: Sequence[Executor], part: str = "") -> PartialStore:
    """Where the finished batches of these executors are kept; see `RunDir.partial`."""
    # Batches can be put together that were computed on one kind of device (one GPU is as good as another) and laid out alike.
    batches = [[(list(b.examples), b.n_nodes, b.sees is None) for b in executor.batches] for executor in work]
    return rundir.partial(prepared.identity, hash_json([prepared.device.partition(":")[0], batches]), part)


def compute(executor: Executor, batch: int, tick: Progress) -> dict[str, np.ndarray]:
    """The arrays that are kept of a batch."""
    result = executor.run(batch, tick)
    out = {"examples": np.array(result.examples), "top1": result.top1.numpy(), "top1_baseline": result.top1_baseline.numpy()}
    for name in result.values:
        out[f"values/{name}"] = result.values[name].numpy()
        out[f"baseline/{name}"] = result.baseline[name].numpy()
    return out | {name: ids.numpy() for name, ids in result.written.items()}


def _assemble(prepared: PreparedRun, work: Sequence[Executor], shards: dict[int, dict[str, np.ndarray]]) -> list[Measured]:
    """Put the finished batches together, in the order of the arms and of the examples."""
    out, first = {}, 0
    for arms, executor in zip(_by_baseline(prepared.arms), work, strict=True):
        mine = [shards[i] for i in range(first, first + len(executor.batches)) if i in shards]
        first += len(executor.batches)
        if mine:
            out |= {id(measured.arm): measured for measured in _join(prepared, arms, mine)}
    found = [out[id(arm)] for arm in prepared.arms if id(arm) in out]
    for measured in found:
        _check_self_patch_arm(prepared, measured)
    return found


def _check_self_patch_arm(prepared: PreparedRun, measured: Measured) -> None:
    """A run that is patched with itself must not change."""
    if not measured.arm.self_patch:
        return
    name = prepared.metrics[0].name
    change = abs(measured.delta(name)).max(1)
    worst = int(change.argmax())
    if change[worst] > NUMERICAL_TOLERANCE[prepared.spec.settings.root.device.dtype]:
        label = measured.arm.rows[worst].intervention
        raise GuardError(
            f"ablation.self_patch: patching a run with itself at {label.label if label else 'no site'} changed {name} by "
            f"{change[worst]:.1e}; it must change nothing"
        )


def _join(prepared: PreparedRun, arms: Sequence[Arm], shards: list[dict[str, np.ndarray]]) -> Iterator[Measured]:
    """The arms of one executor, from its batches."""
    names = [m.name for m in prepared.metrics]
    joined = {key: np.concatenate([s[key] for s in shards], axis=-1) for key in shards[0]}
    order = np.argsort(joined["examples"], kind="stable")
    joined = {key: array[..., order] for key, array in joined.items()}
    # In the order of the metrics: a batch that was read back from disk has its arrays in another order.
    baseline = {name: joined[f"baseline/{name}"] for name in names}
    examples, start = joined["examples"], 0
    groups = [prepared.tokens[i].example.group for i in examples]
    for arm in arms:
        mine = slice(start, start := start + len(arm.runs))
        values = {name: joined[f"values/{name}"][mine] for name in names}
        measured = Measured(arm, examples, groups, values, baseline, joined["top1"][mine], joined["top1_baseline"])
        if prepared.decoding is not None:
            ids = {"text": joined["written"][:, mine], "text_baseline": joined["written_baseline"]}
            measured = replace(measured, texts=_texts(prepared.decoding, arm, examples, ids))
        yield _by_row(measured)


def _texts(decoding: Decoding, arm: Arm, examples: np.ndarray, ids: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Texts (..., n) from token ids (max_new_tokens, ..., n), -1 behind the end."""
    out = {}
    for name, of_runs in ids.items():
        rows = of_runs.reshape(len(of_runs), -1, len(examples))
        texts = [
            [
                decoding.text(arm.prompts[example].ids, tuple(i for i in rows[:, run, place].tolist() if i >= 0))
                for place, example in enumerate(examples)
            ]
            for run in range(rows.shape[1])
        ]
        out[name] = np.array(texts, dtype=object).reshape(of_runs.shape[1:])
    return out


def _by_row(measured: Measured) -> Measured:
    """From one result a run to one a row: means over draws, and the baseline where nothing had to be run."""
    counts = [len(row.runs) for row in measured.arm.rows]
    starts = np.cumsum([0, *counts])[:-1]

    def mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        rows = [values[s : s + n].mean(0) if n else known for s, n in zip(starts, counts, strict=True)]
        return np.array(rows, dtype=float).reshape(len(counts), len(known))

    def first(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        rows = [values[s] if n else known for s, n in zip(starts, counts, strict=True)]
        return np.array(rows, dtype=known.dtype).reshape(len(counts), len(known))

    several = set(counts) == {max(counts, default=0)} and max(counts, default=0) > 1
    return replace(
        measured,
        values={name: mean(v, measured.baseline[name]) for name, v in measured.values.items()},
        top1=first(measured.top1, measured.top1_baseline),
        texts=measured.texts and {**measured.texts, "text": first(measured.texts["text"], measured.texts["text_baseline"])},
        draws={name: v.mean(1).reshape(len(counts), -1) for name, v in measured.values.items()} if several else {},
    )
