"""Jobs that share their options are composed as Hydra composes them, once."""

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from tiny_ablation.ablations.registry import register_schemas
from tiny_ablation.commands._compose import compose_sweep
from tiny_ablation.config import composition, schema
from tiny_ablation.errors import ConfigError
from tiny_ablation.paths import conf_dir

composition.share_compositions()
HYDRA = ConfigLoaderImpl.load_sweep_config.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
JOBS = [
    [],
    ["seed=3"],
    ["model=toy", "dataset=ioi", "seed=1", "stats.n_boot=200"],
    ["model=toy", "dataset=ioi", "seed=2", "stats.n_boot=300"],
    ["ablation=mlp_zero", "ablation.positions=last", "seed=1"],
    ["ablation=heads_zero", "ablation.scales=[0.0,0.25]"],
    ["experiment=h1_head_specialization", "seed=4", "dataset.n_examples=5"],
    ["+notes.why=because", "+notes.more={a: 1}"],
    ["sweep.hypotheses={it: {test: nonzero}}"],
    ["hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=1", "model=gpt2"],
    ["device=cpu", "device.threads=null", "tracking=off", "condition='a b=c'"],
]


@pytest.fixture
def loader():
    """Hydra's loader, and the config of a sweep as a whole."""
    schema.register()
    register_schemas()
    composition.forget_compositions()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        yield GlobalHydra.instance().config_loader(), app.compose_config("config", [], RunMode.MULTIRUN)


def content(cfg):
    cfg.hydra.job.num, cfg.hydra.job.id = 7, "job_7"
    return OmegaConf.to_container(cfg, resolve=False), cfg.hydra.sweep.subdir, cfg.hydra.sweep.dir


@pytest.mark.parametrize("overrides", JOBS, ids=" ".join)
def test_a_job_is_what_hydra_makes_of_it(loader, overrides):
    hydra, master = loader
    first = content(hydra.load_sweep_config(master, overrides))
    assert content(hydra.load_sweep_config(master, overrides)) == first
    assert content(HYDRA(hydra, master, overrides)) == first


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["dataset=nonsense"], HydraException),
        (["stats.nonsense=1"], HydraException),
        (["seed=x"], HydraException),
        (["+notes.x._target_=os.system"], ConfigError),
        (["+notes.x={_target_: os.system}"], ConfigError),
    ],
)
def test_what_hydra_or_the_guard_refuses_is_refused(loader, overrides, error):
    hydra, master = loader
    hydra.load_sweep_config(master, [])
    for _ in range(2):
        with pytest.raises(error):
            hydra.load_sweep_config(master, overrides)


def test_a_copy_is_a_copy(loader):
    hydra, master = loader
    hydra.load_sweep_config(master, ["model=toy"]).model.seed = 5
    assert hydra.load_sweep_config(master, ["model=toy", "seed=1"]).model.seed == 0


def test_a_grid_composes_its_options_once(monkeypatch):
    composed = []
    compose = ConfigLoaderImpl._load_configuration_impl
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "_load_configuration_impl",
        lambda self, *args, **how: composed.append(args) or compose(self, *args, **how),
    )
    planned = compose_sweep(["model=toy", "dataset=facts,sva", f"seed={','.join(map(str, range(20)))}"])
    assert len(planned.specs) == 40
    assert len(composed) == 3  # the sweep as a whole, and the options of each data set


def test_a_corpus_of_many_cells_is_read_once(monkeypatch):
    from tiny_ablation.data import corpus
    from tiny_ablation.run import spec

    read = []
    monkeypatch.setattr(spec, "load_corpus", lambda cfg, seed: read.append(cfg.name) or corpus.load_corpus(cfg, seed))
    planned = compose_sweep(["model=toy", "dataset=facts,ioi", "ablation=heads_zero,mlp_zero", "seed=0,1,2"])
    assert sorted(read) == ["facts", "ioi", "ioi", "ioi"]  # the seed draws the prompts of one of them
    alone = compose_sweep(["model=toy", "dataset=ioi", "ablation=mlp_zero", "seed=2"]).specs[0]
    assert alone.corpus == next(s.corpus for s in planned.specs if (s.corpus.name, s.settings.root.seed) == ("ioi", 2))
