"""The findings page holds the numbers of the runs' files, and nothing that is not in them."""

import pandas as pd
import pytest

from tiny_ablation.report.findings import findings_page
from tiny_ablation.store.files import read_json, write_json
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir

FAST = ("model=toy", "tracking=off", "verify=off", "device.threads=1", "stats.n_boot=200", "stats.n_perm=2000")


@pytest.fixture
def runs(cli, tmp_path, once):
    def make():
        heads = cli(
            *FAST,
            "ablation=heads_zero",
            "ablation.scales=[0.0]",
            "dataset.split=train",
            "dataset.n_examples=30",
            "stats.confirm=test",
            "stats.confirm_top=3",
            "hydra.run.dir=heads",
        )
        circuit = cli(
            *FAST,
            "ablation=circuit",
            "ablation.from_run=heads",
            "metrics.primary=kl_div",
            "ablation.n_random=4",
            "ablation.members=2",
            "dataset.split=test",
            "dataset.n_examples=20",
            "hydra.run.dir=circuit",
        )
        assert (heads.code, circuit.code) == (0, 0)

    once(make)
    return tmp_path


def test_the_page_is_made_of_the_files(cli, runs):
    assert cli("findings", "heads", "circuit", "--out", "docs/findings.md").code == 0
    page = (runs / "docs/findings.md").read_text()
    assert "    tiny-ablate findings heads circuit --out docs/findings.md" in page
    assert "ablation=heads_zero 'ablation.scales=[0.0]' dataset.split=train" in page  # as a shell takes it
    assert "tracking=off" not in page
    impact = pd.read_parquet(runs / "heads/metrics/head_impact.parquet").query("metric == 'logit_diff'")
    first = impact.loc[impact["delta"].abs().idxmax()]
    assert f"| L{first['layer']}H{first['head']} | {first['delta']:+.3f} |" in page
    circuits = pd.read_parquet(runs / "circuit/metrics/circuit.parquet")
    for row in circuits.itertuples():
        assert f"| {row.fraction:g} | {row.size} | {row.faithfulness:.3f} |" in page
    confirm = pd.read_parquet(runs / "heads/metrics/confirm.parquet").query("metric == 'logit_diff'")
    assert len(confirm) == 3
    assert all(f"| {row.delta_chosen:+.3f} | {row.delta:+.3f} |" in page for row in confirm.itertuples())
    assert "on average over 200 random halves" in page
    assert "CPR (area under f" in page
    assert "Minimality:" in page
    assert cli("findings", "heads", "circuit").out.count("## ") == 2


HOSTILE = "<script>alert(1)</script> ![x](http://evil/x.png) [x](javascript:alert(1)) [x]: http://evil\n\n    <b>\n# mine"


def test_what_a_stranger_wrote_is_text(runs):
    """In names, warnings and the command line, under checksums that fit."""
    for name in ("heads", "circuit"):
        run = RunDir(runs / name)
        summary, provenance = read_json(run.summary), read_json(run.provenance)
        summary |= {"model": HOSTILE, "dataset": f"`{HOSTILE}`", "warnings": [HOSTILE], "null": HOSTILE}
        summary["top"] = [row | {"head": HOSTILE} if "head" in row else row for row in summary["top"]]
        provenance["argv"] = ["tiny-ablate", HOSTILE]
        with run.lock():
            write_json(run.summary, summary)
            write_json(run.provenance, provenance)
            write_manifest(run, run_id=f"`{HOSTILE}`", status="ok", digest="d", covers={})
    page = findings_page([runs / "heads", runs / "circuit"], f"tiny-ablate findings {HOSTILE}")
    lines = page.splitlines()
    code = [i for i, line in enumerate(lines) if line.startswith("    ")]
    assert len(code) == 3
    assert all(lines[i - 1] == lines[i + 1] == "" and lines[i - 2].strip() for i in code)
    rest = "\n".join(line for i, line in enumerate(lines) if i not in code)
    assert "&lt;script&gt;alert(1)" in rest
    for live in ("<", "](", "]:", "\n# mine"):
        assert live not in rest


def test_a_directory_without_a_run_is_refused(cli, tmp_path):
    done = cli("findings", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.err


def test_a_file_that_was_changed_is_refused(cli, runs):
    path = runs / "heads/metrics/summary.json"
    path.write_text(path.read_text().replace("logit_diff", "logit_dift", 1))
    done = cli("findings", "heads")
    assert done.code == 2
    assert "summary.json" in done.err
