"""stats.confirm through the command line, against a run of its own on the other split."""

import json

import pytest

from tiny_ablation.store.reader import load_run

FAST = (
    "model=toy",
    "dataset.relations=null",
    "tracking=off",
    "verify=off",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=400",
)
HEADS = ("ablation=heads_zero", "ablation.scales=[0.0,0.5]")


def test_the_chosen_sites_are_measured_on_the_other_split(cli, tmp_path):
    done = cli(*FAST, *HEADS, "dataset.split=dev", "stats.confirm=test", "stats.confirm_top=3", "hydra.run.dir=chosen")
    assert done.code == 0
    assert "Held-out: the 3 strongest sites of split dev, measured again on split test (98 examples" in " ".join(
        done.out.split()
    )
    assert cli(*FAST, *HEADS, "dataset.split=test", "dataset.n_examples=null", "hydra.run.dir=apart").code == 0
    chosen, apart = load_run(tmp_path / "chosen"), load_run(tmp_path / "apart")
    expected = apart.impact.set_index(["metric", "layer", "head", "scale"])
    top = chosen.impact.query("metric == 'logit_diff' and scale == 0").set_index(["layer", "head"])["delta"]
    sites = chosen.summary["confirm"]["sites"]
    assert [(s["layer"], s["head"]) for s in sites] == top.abs().nlargest(3).index.tolist()
    for site in sites:
        row = expected.loc[("logit_diff", site["layer"], site["head"], 0.0)]
        assert site["delta"] == pytest.approx(row["delta"], abs=1e-5)
        assert site["delta_chosen"] == pytest.approx(top[site["layer"], site["head"]])
    assert (tmp_path / "chosen/metrics/confirm.parquet").is_file()
    assert not (tmp_path / "chosen/partial").exists()
    assert "metrics/confirm.parquet" in json.loads((tmp_path / "chosen/manifest.json").read_text())["files"]
    assert "change on dev" in (tmp_path / "chosen/report.html").read_text()


def test_sites_that_were_screened_are_confirmed_too(cli, tmp_path):
    done = cli(
        *FAST,
        "ablation=heads_zero",
        "ablation.scales=[0.0]",
        "ablation.screen=attribution",
        "ablation.screen_top=2",
        "ablation.screen_random=3",
        "dataset.split=dev",
        "stats.confirm=test",
        "stats.confirm_examples=30",
        "hydra.run.dir=run",
    )
    assert done.code == 0
    found = load_run(tmp_path / "run").summary["confirm"]
    assert (found["missing"], found["n_examples"]) == (0, 30)
    assert found["family_size"] == len(found["sites"]) >= 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("stats.confirm=test",), "stats.confirm=test with dataset.split=all"),
        (("stats.confirm=dev", "dataset.split=dev"), "stats.confirm=dev with dataset.split=dev"),
        (("stats.confirm=all", "dataset.split=dev"), "stats.confirm=all"),
        (("stats.confirm=test", "dataset.split=dev", "ablation=attribution"), "ablation=attribution has no sites"),
        (("stats.confirm=test", "dataset.split=dev", "stats.confirm_top=0"), "stats.confirm_top=0"),
        (("stats.confirm=test", "dataset.split=dev", "stats.confirm_examples=5000"), "the test split of facts has 98"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_before_anything_runs(cli, tmp_path, overrides, message):
    done = cli(*FAST, *overrides, "hydra.run.dir=run")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_by_is_stricter_than_bh_by_its_known_factor(cli, tmp_path):
    common = (*FAST, "ablation=heads_zero", "ablation.scales=[0.0]", "dataset.n_examples=40", "stats.n_perm=4000")
    for fdr in ("bh", "by"):
        assert cli(*common, f"stats.fdr={fdr}", f"hydra.run.dir={fdr}").code == 0
    bh, by = (load_run(tmp_path / fdr).impact.query("metric == 'logit_diff'")["q_value"] for fdr in ("bh", "by"))
    penalty = sum(1 / i for i in range(1, 9))
    assert by.tolist() == pytest.approx((bh * penalty).clip(upper=1).tolist())
    assert "Benjamini &amp; Yekutieli" in (tmp_path / "by/report.html").read_text()
