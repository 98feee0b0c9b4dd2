"""Other models than the run's own: the options of the `model` group by name."""

from pathlib import Path
from typing import Any

from tiny_ablation.config.file_keys import check_file, is_foreign
from tiny_ablation.config.keys import check_values
from tiny_ablation.config.schema import ModelConfig, RootConfig
from tiny_ablation.config.yaml_size import check_yaml
from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.paths import conf_dir

_KEY = "dataset.common_rows"


def options(group: str) -> list[str]:
    """The names of all options of a config group, such as `model`, sorted; from the user's config directories too."""
    return sorted({path.stem for place in _config_directories() for path in (place / group).glob("*.yaml")})


def model_option(name: str) -> ModelConfig:
    """The config of `model=name`, from the user's config directories too. Raises ConfigError: there is no such option."""
    from omegaconf import OmegaConf

    for directory in _config_directories():
        file = directory / "model" / f"{name}.yaml"
        if file.is_file():
            check_yaml(file.read_text(encoding="utf-8"), file)
            given = OmegaConf.load(file)
            if is_foreign("file", str(directory)):
                check_file(OmegaConf.create({"model": given}), str(file))
            merged: Any = OmegaConf.merge(OmegaConf.structured(ModelConfig), given)
            option: Any = OmegaConf.to_object(merged)
            check_values(option, "model.")
            return option
    known = options("model")
    raise ConfigError(f"{_KEY}: there is no model={name}{did_you_mean(name, known)}; there are {', '.join(known)}")


def common_rows(root: RootConfig) -> list[str] | None:
    """The names that `dataset.common_rows` stands for, sorted; None where it is not set.

    Raises:
        ConfigError: it is neither a list of names nor true, or true in a run that belongs to no sweep.
    """
    asked = root.dataset.common_rows
    if asked is None or asked is False or asked == []:
        return None
    if asked is True:  # in a sweep it was replaced by the models that occur
        raise ConfigError(
            f"{_KEY}=true means the models of a sweep, and this is a single run; name them: {_KEY}=[gpt2,pythia_70m]"
        )
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ConfigError(f"{_KEY}={asked}: give a list of model options such as [gpt2,pythia_70m], or true in a sweep")
    return sorted(set(asked))


def _config_directories() -> list[Path]:
    """Hydra's search path, so that --config-dir counts, also before the jobs of a sweep; else the tool's own directory."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    if GlobalHydra.instance().is_initialized():  # first, since the other is also of a command that has ended
        sources = GlobalHydra.instance().config_loader().get_sources()
        return [Path(source.path) for source in sources if source.scheme() == "file"]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        return [Path(source.path) for source in sources if source.schema == "file"]
    return [conf_dir()]
