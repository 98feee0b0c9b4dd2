"""What Hydra refuses is told in one line, with what was meant perhaps and what to type."""

import shlex

import pytest
from hydra.errors import HydraException

from tiny_ablation.commands._compose import compose, compose_sweep, composed
from tiny_ablation.config.refusals import explain, is_refusal
from tiny_ablation.errors import ConfigError


def told(*overrides):
    with pytest.raises(HydraException) as caught:
        composed(overrides)
    assert is_refusal(caught.value)
    return explain(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("device.thread=3", ("no config key device.thread (did you mean device.threads?); `tiny-ablate help device`",)),
        ("modle=gpt2", ("no config key modle (did you mean model?); `tiny-ablate help config`",)),
        ("dataset=fact", ("no dataset=fact (did you mean facts?); there are ",)),
        ("model.source=wheell", ("model.source=wheell (did you mean wheel?): choose one of wheel, hub",)),
        ("ablation.mean=position", ("ablation.mean is a key of ablation=attn_mean, circuit, heads_mean, mlp_mean,",)),
        ("dataset.path=a,b.jsonl", ("needs -m", "typed 'dataset.path=[a,b.jsonl]',", """'dataset.path="a,b.jsonl"'""")),
        ("justtext", ("justtext: write KEY=VALUE",)),
    ],
)
def test_what_is_refused(override, words):
    line = told(override)
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "path",
    [
        "/data/run=3/x.jsonl",
        "/data/a(1).jsonl",
        "/data/é/日本.jsonl",
        "/data/[x]{y}.jsonl",
        "C:\\data\\x=1\\",
        """it's "here"=1""",
        "a:b=c",
        "/data/#1=2 3.jsonl",
    ],
)
def test_the_quoting_of_a_refusal_works(path):
    line = told(f"dataset.path={path}")
    assert line.startswith(f"dataset.path={path}: ")
    (typed,) = shlex.split(line.partition("it is typed ")[2])
    assert composed(["dataset=jsonl", typed]).dataset.path == path


def test_keys_that_plus_smuggled_in():
    with pytest.raises(ConfigError, match=r"no config key model\.foo"):
        compose(["model=toy", "+model.foo=1"])


def test_a_cell_that_lacks_a_key_is_named():
    with pytest.raises(ConfigError) as caught:
        compose_sweep(["model=toy", "ablation=heads_mean,heads_zero", "dataset.split=dev", "ablation.mean=position"])
    assert str(caught.value).startswith("cell 1 (model=toy, ablation=heads_zero,")
    assert "ablation.mean is a key of ablation=attn_mean, circuit, heads_mean, mlp_mean" in str(caught.value)


def test_a_key_that_every_cell_has_but_the_default_ablation():
    overrides = ["ablation=heads_mean,mlp_mean", "ablation.mean=position", "model=toy", "dataset.split=dev"]
    planned = compose_sweep(overrides)
    assert [spec.settings.root.ablation.mean for spec in planned.specs] == ["position", "position"]
    assert list(planned.plan.varies) == ["ablation"]


def test_a_key_that_no_cell_has():
    with pytest.raises(ConfigError, match=r"cell 0 .*no config key model\.nam \(did you mean model\.name\?\)"):
        compose_sweep(["model=toy", "seed=0,1", "model.nam=x"])


def test_options_are_listed_without_the_schemas_that_they_build_on(cli):
    for shown in (cli("--help").out, cli("ablation=nope").err):
        assert "heads_zero" in shown
        assert "_schema" not in shown


def test_a_bare_m_asks_for_what_to_sweep(cli):
    found = cli("-m")
    assert found.code == 2
    assert "say which, such as: tiny-ablate -m dataset=facts,ioi" in found.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metrics.names=[logit_dif]", "'logit_dif' (did you mean logit_diff?); there are acc_flip_rate"),
        ("dataset.family=fact", "fact is unknown (did you mean facts?); choose from"),
        ("dataset.relations=[capitol]", "'capitol' (did you mean capital?); choose from"),
        ("dataset.common_rows=[gpt3]", "model=gpt3 (did you mean gpt2?); there are"),
        ("ablation.component=zz", "ablation.component=zz (did you mean z?): choose one of"),
    ],
)
def test_misspelt_values_are_told_first_what_is_like_them(cli, override, said):
    assert said in cli("model=toy", "tracking=off", override).err


def test_a_misspelt_sub_command(cli):
    assert "no sub-command statsu (did you mean status?); " in cli("statsu").err
