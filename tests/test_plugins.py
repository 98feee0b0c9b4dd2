"""Ablations and metrics from outside the package: from a file, and by an entry point."""

import sys
from importlib.metadata import EntryPoint

import pandas as pd
import pytest
from hydra.core.config_store import ConfigStore

from tests.cli.conftest import TOY
from tests.test_docs import blocks
from tiny_ablation import plugins
from tiny_ablation.ablations import registry
from tiny_ablation.errors import UserError
from tiny_ablation.metrics import registry as metrics
from tiny_ablation.store.files import read_json

METRIC = """
from tiny_ablation.metrics.readout import Metric

METRICS = [Metric("half_drop", "probability", "half of the target's lost probability",
                  lambda a, b: (b.token_log_prob.exp() - a.token_log_prob.exp()) / 2, worse=1)]
"""
RUN = [*TOY, "verify=off", "ablation=mlp_half", "metrics.names=[p_drop,half_drop]", "metrics.primary=half_drop"]


def forget():
    for cached in (plugins.plugins, registry.all_ablations, metrics.metric):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def clean():
    forget()
    yield
    forget()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    registry.register_schemas()  # those of the package, which stay when the plug-in's are taken out again
    forget()
    [ablation] = blocks("docs/adding.md", "python")
    path = tmp_path / "mine.py"
    path.write_text(ablation + METRIC)
    monkeypatch.setenv(plugins.VARIABLE, str(path))
    options = ConfigStore.instance().repo.get("ablation", {})
    before = set(options)
    registry.register_schemas()  # once a process, which here has begun without the plug-in
    yield path
    for name in set(ConfigStore.instance().repo["ablation"]) - before:
        del ConfigStore.instance().repo["ablation"][name]


def test_an_ablation_and_a_metric_of_a_file_run_like_those_of_the_package(mine, cli, tmp_path):
    done = cli(*RUN, "hydra.run.dir=run")
    assert done.code == 0, done.err
    table = pd.read_parquet(tmp_path / "run/metrics/layer_impact.parquet").set_index(["layer", "metric"])["delta"]
    assert table[0, "half_drop"] != 0
    assert table[0, "half_drop"] == pytest.approx(table[0, "p_drop"] / 2, abs=1e-12)
    said = "half_drop is half of the target&#39;s lost probability, in probability."
    assert said in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    covers = read_json(tmp_path / "run/manifest.json")["covers"]
    assert covers["versions"]["plug-in mine"] == plugins.plugins()[0].digest


def test_another_text_of_the_plugin_is_another_run(mine, cli):
    assert cli(*RUN, "hydra.run.dir=run").code == 0
    mine.write_text(mine.read_text() + "# changed\n")
    forget()
    done = cli(*RUN, "hydra.run.dir=run")
    assert done.code == 2
    assert "plug-in mine" in done.err


def test_a_run_that_uses_no_plugin_is_the_same_run_with_one(mine, cli, tmp_path):
    own = ["metrics.names=[p_drop]", "metrics.primary=p_drop"]
    assert cli(*TOY, *own, "verify=off", "hydra.run.dir=run").code == 0
    assert not any("plug-in" in name for name in read_json(tmp_path / "run/manifest.json")["covers"]["versions"])


def test_a_module_by_an_entry_point(tmp_path, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(METRIC)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    entry = EntryPoint("mine", "my_metrics", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == plugins.GROUP else [])
    assert "half_drop" in metrics.metric_names()
    assert metrics.metric("half_drop").worse == 1
    assert metrics.span_of("half_drop") == "first"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "adds nothing"),
        ("import no_such_module", "cannot be imported: .*no_such_module"),
        (METRIC.replace("half_drop", "p_drop"), "already one called p_drop"),
        (None, "no such file"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch, text, said):
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv(plugins.VARIABLE, str(path))
    with pytest.raises(UserError, match=said):
        metrics.metric_names()


def test_a_broken_plugin_ends_a_run_with_one_line(tmp_path, monkeypatch, cli):
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "none.py"))
    done = cli(*TOY, "hydra.run.dir=run")
    assert done.code == 2
    assert "there is no such file" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_function_on_texts_is_measured(cli, tmp_path, monkeypatch):
    [block] = [block for block in blocks("docs/howto.md", "python") if "text_words" in block]
    (tmp_path / "mine.py").write_text(block)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "mine.py"))
    done = cli(
        *TOY,
        "verify=off",
        "metrics.span=text",
        "generate.max_new_tokens=4",
        "ablation.heads=[0]",
        "dataset.n_examples=4",
        "metrics.names=[text_words]",
        "hydra.run.dir=run",
    )
    assert done.code == 0, done.err
    rows = pd.read_parquet(tmp_path / "run/metrics/per_example.parquet")
    assert rows["text_words"].tolist() == [len(text.split()) for text in rows["text"]]
    assert read_json(tmp_path / "run/metrics/summary.json")["primary"] == "text_words"
