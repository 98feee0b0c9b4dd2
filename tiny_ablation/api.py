"""The tool from Python: what the command runs, on models and rows in memory as well as on named ones.

    from tiny_ablation import Edit, Intervention, Scale, ablate, measure

    run = ablate(model, rows, "heads_zero", tokenizer=tokenizer, n_examples=40)
    run.top(5)
    table = measure(model, rows, {"no L3H2": Edit("z", 3, 2, Scale(0.0))}, tokenizer=tokenizer)

A model in memory is saved once into the cache, under the checksum of its weights, and loaded from there: so a run of it is
verified, resumed and identified like any other, and goes on being what it was when the model is changed afterwards.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.registry import find_ablation, run_spec
from tiny_ablation.commands._compose import composed
from tiny_ablation.config.model_options import options
from tiny_ablation.config.schema import RootConfig
from tiny_ablation.config.settings import to_settings
from tiny_ablation.data.arrow_rows import HUB
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import BusyError, ConfigError, ModelError, did_you_mean
from tiny_ablation.models.sources.store import converted

if TYPE_CHECKING:
    import pandas as pd

    from tiny_ablation.run.spec import RunSpec
    from tiny_ablation.store.reader import Run

_GROUPS = ("dataset", "ablation", "device", "metrics", "stats", "verify", "model", "sae", "tracking")
_OPTIONS = ("device", "verify", "tracking", "experiment")  # groups of which an option is given: device="cpu"
_PROBE = 8  # tokens on which a bridge is compared with its Hugging Face model


def ablate(
    model: Any = "smollm2_135m",
    data: Any = "facts",
    ablation: str = "heads_zero",
    *,
    tokenizer: Any = None,
    run_dir: "str | Path | None" = None,
    quiet: bool = False,
    **overrides: Any,
) -> "Run":
    """Carry one run out, as the command does, and read it back.

    Args:
        model: an option of `model=`, a Hugging Face directory or `.gguf` file, or a Hugging Face model or TransformerLens
            `TransformerBridge` in memory.
        data: an option of `dataset=`, what `dataset.path` takes, a list of dictionaries, or a DataFrame.
        ablation: an option of `ablation=`.
        tokenizer: of a Hugging Face model in memory; a bridge has its own.
        run_dir: the run directory; None makes `outputs/<date>/<time>`. A run that was begun there goes on.
        quiet: print nothing.
        **overrides: config keys: `n_examples=40` where one group has such a key, or the whole key,
            `**{"stats.n_boot": 500}`; and options: `device="cpu"`, `verify="off"`, `tracking="off"`.

    Raises:
        UserError: a value is wrong, or the model or a row cannot be used; nothing was written.
    """
    from tiny_ablation.pipeline import run
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.store.reader import load_run
    from tiny_ablation.tracking.mlflow_sink import publish

    spec = _spec(model, data, ablation, tokenizer, overrides)
    directory = Path(run_dir or f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S}")
    if not run(spec, directory, Screen(quiet=quiet)):
        raise BusyError(f"another worker ends this run; then load_run({str(directory)!r})")
    publish(directory, spec.settings.root.tracking, cwd=Path.cwd())
    return load_run(directory)


def measure(
    model: Any,
    data: Any,
    interventions: "Mapping[str, Edit | Intervention] | Sequence[Edit | Intervention]",
    metrics: Sequence[str] = ("logit_diff",),
    *,
    tokenizer: Any = None,
    **overrides: Any,
) -> "pd.DataFrame":
    """What interventions of your own do to every row, at the engine's speed and under its guards; nothing is written.

    Args:
        model: as in `ablate`.
        data: as in `ablate`.
        interventions: edits, or several made together; by name, or named by their sites.
        metrics: names of metrics, as in `metrics.names`.
        tokenizer: as in `ablate`.
        **overrides: as in `ablate`.

    Returns:
        A row per intervention, example and metric: `intervention, example_id, metric, baseline, value, delta`.

    Raises:
        UserError: a value is wrong, or the model, a row or a site cannot be used.
    """
    import pandas as pd

    from tiny_ablation.run.baseline import prompt_of
    from tiny_ablation.run.measure import executor
    from tiny_ablation.run.prepare import prepare_run, require_room

    named = interventions if isinstance(interventions, Mapping) else {_whole(i).label: i for i in interventions}
    spec = _spec(model, data, "heads_zero", tokenizer, {**overrides, "metrics.names": list(metrics), "scales": [1.0]})
    prepared = prepare_run(spec)
    prompts = [prompt_of(t) for t in prepared.tokens]
    for each in named.values():
        for edit in _whole(each).edits:
            prepared.network.hook_point(edit.component, edit.layer)  # refuses what the model does not have
    if prepared.decoding is not None:
        require_room(spec.settings.root, prepared.network, [(prompts, len(named))])
    found = []
    for result in executor(prepared, prompts, [_whole(each) for each in named.values()]):
        ids = [prompts[i].name for i in result.examples]
        for name, values in result.values.items():
            base = result.baseline[name].tolist()
            for label, row in zip(named, values.tolist(), strict=True):
                found += [
                    (label, example, name, before, after, after - before)
                    for example, before, after in zip(ids, base, row, strict=True)
                ]
    return pd.DataFrame(found, columns=["intervention", "example_id", "metric", "baseline", "value", "delta"])


def _whole(each: Edit | Intervention) -> Intervention:
    return Intervention((each,)) if isinstance(each, Edit) else each


def _spec(model: Any, data: Any, ablation: str, tokenizer: Any, overrides: Mapping[str, Any]) -> "RunSpec":
    """What the command would make of the same options."""
    from omegaconf import OmegaConf

    given = [f"{name}={value}" for name, value in overrides.items() if name in _OPTIONS]
    keys = {_key(name, ablation): value for name, value in overrides.items() if name not in _OPTIONS}
    option, chosen = _model(model, tokenizer)
    dataset, rows = _data(data)
    cfg = composed([f"model={option}", f"dataset={dataset}", f"ablation={ablation}", *given])
    for key, value in {**chosen, **rows, **keys}.items():
        OmegaConf.update(cfg, key, value)
    return run_spec(to_settings(cfg))


def _key(name: str, ablation: str) -> str:
    """The whole key that `name` stands for."""
    groups: dict[str, Any] = {field.name: field.type for field in fields(RootConfig)}
    groups["ablation"] = find_ablation(ablation).config
    if "." in name or (name in groups and not is_dataclass(groups[name])):
        return name
    known = {f"{group}.{field.name}" for group in _GROUPS for field in fields(groups[group])}
    found = [key for key in sorted(known) if key.partition(".")[2] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name} is a key of several groups; say which: " + ", ".join(found))
    bare = [key.partition(".")[2] for key in sorted(known)]
    raise ConfigError(f"there is no key {name}{did_you_mean(name, bare)}")


def _model(model: Any, tokenizer: Any) -> tuple[str, dict[str, Any]]:
    """The option of `model=`, and the keys beside it."""
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise ConfigError("tokenizer is that of a model in memory; a named model has its own")
        if str(model) in options("model"):
            return str(model), {}
        if not Path(model).expanduser().exists():
            raise ConfigError(f"model={model}{did_you_mean(model, options('model'))} is neither an option nor a path")
        return "local", {"model.path": str(Path(model).expanduser())}
    from transformers import PreTrainedModel

    if hasattr(model, "original_model"):
        model, tokenizer = _of_bridge(model), tokenizer or model.tokenizer
    if hasattr(model, "merge_and_unload"):
        raise ModelError("the model carries an adapter; merge it first: model.merge_and_unload()")
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"model is a {type(model).__name__}; give a name, a directory, a Hugging Face model, or a TransformerBridge"
        )
    if tokenizer is None:
        raise ModelError("a Hugging Face model in memory needs its tokenizer: ablate(model, ..., tokenizer=tokenizer)")

    def save(directory: Path) -> dict[str, str]:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return {"saved_from": type(model).__name__}

    directory = converted("memory", f"memory:{_digest(model, tokenizer)}", save)
    name = Path(getattr(model.config, "_name_or_path", "") or "").name or type(model).__name__
    return "local", {"model.path": str(directory), "model.name": name}


def _of_bridge(bridge: Any) -> Any:
    """The Hugging Face model with a bridge's weights."""
    import torch

    original = bridge.original_model
    state = {name.replace("._original_component", ""): value for name, value in original.state_dict().items()}
    plain = type(original)(original.config).to(original.dtype)
    own = plain.state_dict()
    lacking = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    if not lacking:
        plain.load_state_dict({name: state[name] for name in own})
        ids = torch.arange(_PROBE)[None] % original.config.get_text_config().vocab_size
        with torch.no_grad():
            before, after = bridge(ids.to(bridge.cfg.device)).cpu().float(), plain.eval()(ids).logits.float()
        if torch.allclose(before, after, rtol=1e-3, atol=1e-3 * after.std().item()):
            return plain
    raise ModelError(
        "the bridge does not compute what its Hugging Face model does (were its weights processed?); give the Hugging "
        "Face model"
    )


def _digest(hf: Any, tokenizer: Any) -> str:
    """SHA-256 of the config, every tensor of the state, and the tokenizer's files."""
    import torch

    found = hashlib.sha256(hf.config.to_json_string(use_diff=False).encode())
    for name, value in sorted(hf.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _data(data: Any) -> tuple[str, dict[str, Any]]:
    """The option of `dataset=`, and the keys beside it."""
    if isinstance(data, str | Path):
        if str(data) in options("dataset"):
            return str(data), {}
        if Path(data).suffix or Path(data).is_dir() or str(data).startswith(HUB):
            return "file", {"dataset.path": str(Path(data).expanduser())}
        raise ConfigError(f"data={data}{did_you_mean(data, options('dataset'))} is neither an option of dataset= nor a file")
    lines = ""
    for row in data.to_dict("records") if hasattr(data, "to_dict") else data:
        values = {str(name): value.item() if hasattr(value, "item") else value for name, value in dict(row).items()}
        given = {name: value for name, value in values.items() if value is not None and value == value}  # no None, no NaN
        lines += json.dumps(given, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(lines.encode()).hexdigest()

    def write(directory: Path) -> dict[str, str]:
        (directory / "rows.jsonl").write_text(lines, encoding="utf-8")
        return {}

    return "file", {"dataset.path": str(converted("rows", f"rows:{digest}", write) / "rows.jsonl"), "dataset.name": "rows"}
