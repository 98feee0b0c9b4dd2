"""From a composed config to plain dataclasses, checked.

Hydra has refused wrong types and unknown options while composing; what is left are keys that `+` smuggled in and values that
are wrong on their own or beside each other. Inner code never sees a DictConfig.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.config.address import masked
from tiny_ablation.config.keys import check_values, defining
from tiny_ablation.config.model_options import common_rows
from tiny_ablation.config.refusals import unknown_key
from tiny_ablation.config.schema import GenerateConfig, ModelConfig, RootConfig, SaeConfig, Span, Split
from tiny_ablation.config.sweep import parse_k
from tiny_ablation.errors import ConfigError

_DATA = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Settings:
    """One run's config."""

    root: RootConfig  # the typed config
    plain: dict[str, Any]  # the same as nested dicts of JSON values, enums by name: what is written down and hashed

    @property
    def defining(self) -> dict[str, Any]:
        """The part of `plain` that defines the result of the run."""
        return defining(self.root, self.plain)


def to_settings(cfg: Any) -> Settings:
    """Check a composed config and make it plain.

    Raises:
        ConfigError: a key is unknown or a value is wrong; the message names the key.
    """
    from omegaconf import OmegaConf

    unknown = sorted(_unknown(cfg))
    if unknown:
        raise ConfigError("; ".join(map(unknown_key, unknown)))
    root: Any = OmegaConf.to_object(cfg)
    model, dataset = root.model, root.dataset
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    for where, each in (("model", model), *_models_of(root.ablation)):
        each.name = _named(each.name, {"local": each.path, "hub": each.id}, (".gguf",))
        (plain if where == "model" else plain["ablation"])[where]["name"] = each.name
    dataset.family = "file" if dataset.family == "jsonl" else dataset.family  # its name in older option files
    dataset.name = _named(dataset.name, {"file": dataset.path}, _DATA)
    _check(root)
    root.dataset.common_rows = common_rows(root)
    plain["dataset"]["common_rows"] = root.dataset.common_rows
    plain["dataset"] |= {"name": dataset.name, "family": dataset.family}
    plain["tracking"]["uri"] = masked(root.tracking.uri) if root.tracking.uri else None
    return Settings(root, plain)


def _models_of(ablation: Any) -> Iterator[tuple[str, ModelConfig]]:
    """The models that an ablation names, by their keys."""
    for each in fields(ablation):
        value = getattr(ablation, each.name)
        if isinstance(value, ModelConfig):
            yield each.name, value


def _named(given: str, places: Mapping[str, str | None], suffixes: Collection[str]) -> str:
    """The name of a model or data set: the config's own, or else that of its directory, file or repository."""
    where = places.get(given)
    if not where:
        return given
    path = Path(where).expanduser()
    bare = (path.stem if path.suffix.lower() in suffixes else path.name) or path.resolve().name
    return re.sub(r"[^\w.+-]", "-", bare) or given


def _unknown(cfg: Any, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig, OmegaConf

    node_type = OmegaConf.get_type(cfg)
    if not (isinstance(node_type, type) and is_dataclass(node_type)):
        return
    known = {field.name for field in fields(node_type)}
    for key in cfg:
        if key not in known:
            yield f"{prefix}{key}"
        elif not OmegaConf.is_missing(cfg, key) and isinstance(cfg[key], DictConfig):
            yield from _unknown(cfg[key], f"{prefix}{key}.")


def _check(root: RootConfig) -> None:
    check_values(root)
    if root.sae != SaeConfig() and not hasattr(root.ablation, "sae"):
        keys = [f"sae.{f.name}" for f in fields(SaeConfig) if getattr(root.sae, f.name) != f.default]
        raise ConfigError(
            f"{', '.join(keys)} is set, but ablation={root.ablation.kind} uses no sparse autoencoder; "
            "take an ablation of features, or leave it out"
        )
    parse_k(root.sweep.k)
    _check_generate(root)
    # What is confirmed must have been chosen on other examples.
    chosen_on, confirm = root.dataset.split, root.stats.confirm
    if confirm is not None and (chosen_on is confirm or Split.all in (chosen_on, confirm)):
        raise ConfigError(
            f"stats.confirm={confirm.value} with dataset.split={chosen_on.value}: sites would be confirmed on examples that "
            "they were chosen on; choose and confirm on two splits, such as dataset.split=dev stats.confirm=test"
        )
    # Names become parts of paths, so nothing in them may lead out of the run directory.
    named = {"model.name": root.model.name, "dataset.name": root.dataset.name, "condition": root.condition}
    named |= {f"ablation.{key}.name": model.name for key, model in _models_of(root.ablation)}
    for key, name in named.items():
        leads_out = name is not None and (any(c in name for c in "\\:\0\n") or ".." in name or name.startswith("/"))
        if leads_out or (name is not None and not name.strip()):
            raise ConfigError(f"{key}={name!r}: use letters, digits, dots, dashes and underscores")


def _check_generate(root: RootConfig) -> None:
    """Nothing is written unless text is measured, and an expression must be one."""
    cfg = root.generate
    if root.metrics.span is not Span.text:
        keys = [
            f"generate.{f.name}" for f in fields(GenerateConfig) if getattr(cfg, f.name) != getattr(GenerateConfig(), f.name)
        ]
        if keys:
            raise ConfigError(
                f"{', '.join(keys)} is set, but no text is written with metrics.span={root.metrics.span.value}; set "
                "metrics.span=text, or leave it out"
            )
    if cfg.stop is not None and "" in cfg.stop:
        raise ConfigError("generate.stop: the empty text ends everything; name what an answer ends with")
    try:
        re.compile((cfg.pattern or "").replace("{target}", "a").replace("{foil}", "b"))
    except re.error as error:
        raise ConfigError(f"generate.pattern={cfg.pattern}: it is no regular expression: {error}") from error
