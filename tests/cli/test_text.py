"""A run whose metrics are of what the model writes: tables, screen, page, plan, Python, and going on after a stop."""

import json

import pytest

from tests.cli.conftest import TOY
from tiny_ablation import Edit, load_run, measure
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.generation import Generation
from tiny_ablation.errors import UserError
from tiny_ablation.store.files import read_table

TEXT = (*TOY, "metrics.span=text", "generate.max_new_tokens=3", "ablation.heads=[0]", "dataset.n_examples=6")
RUN = (*TEXT, "generate.temperature=0.5", "hydra.run.dir=run")


@pytest.fixture
def done(cli, once, tmp_path):
    def run():
        result = cli(*RUN)
        assert result.code == 0, result.err
        return result.out

    return tmp_path / "run", once(run)


def test_texts_stand_in_the_files_and_on_screen_and_page(done):
    directory, screen = done
    rows = read_table(directory / "metrics/per_example.parquet")
    assert len(rows) == 12
    assert (rows["text_changed"] == (rows["text"] != rows["text_baseline"])).all()
    assert rows["text_changed"].sum() > 0
    assert rows["text_baseline"].nunique() > 3
    first = rows.iloc[0]
    page = (directory / "report.html").read_text()
    for shown in (screen, page):
        assert "writes another text behind" in " ".join(shown.split())
        assert "written before" in shown
    assert first["text_baseline"].split()[0] in page
    assert json.loads((directory / "metrics/verify.json").read_text())["verdict"] == "ok"


def test_intervals_of_effects_that_were_never_seen_have_a_width(done):
    impact = load_run(done[0]).impact.set_index("metric")
    rows = impact.loc["text_exact"]
    assert (rows["delta"] == 0).all()
    assert (rows["ci_low"] < -0.3).all()
    assert (rows["ci_high"] > 0.3).all()
    assert (rows["selected_high"] >= rows["ci_high"]).all()
    assert impact.loc["text_changed", "p_value"].isna().all()
    assert rows["p_value"].eq(1).all()
    average = load_run(done[0]).summary["metrics"]["text_exact"]
    assert average["ci_low"] < -0.3 < 0.3 < average["ci_high"]
    baseline = load_run(done[0]).summary["baseline"]["text_exact"]
    assert (baseline["mean"], baseline["ci_low"]) == (0, 0)
    assert baseline["ci_high"] > 0.3


def test_texts_come_back_in_python(done):
    examples = load_run(done[0]).examples("L0H0", "text_changed")
    assert {"text", "text_baseline", "clean"} <= set(examples.columns)
    assert len(examples) == 6


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_texts(done, cli, monkeypatch):
    directory, _ = done
    whole, stop = Executor.run, [True]

    def run(self, index, tick=lambda _: None):
        if index and stop[0]:
            raise KeyboardInterrupt
        return whole(self, index, tick)

    monkeypatch.setattr("tiny_ablation.engine.executor.MIN_NODES", 2)
    monkeypatch.setattr(Generation, "run", run)
    again = [*RUN[:-1], "hydra.run.dir=again"]
    assert cli(*again).code == 130
    stop[0] = False
    assert cli(*again).code == 0
    first, second = (read_table(d / "metrics/per_example.parquet") for d in (directory, directory.parent / "again"))
    assert first.equals(second)


def test_the_plan_says_how_much_is_written(cli):
    out = cli("plan", *TEXT, "verify=off").out
    assert "up to 36 tokens are written (interventions x examples x generate.max_new_tokens), with keys and values" in out
    cut = [o for o in TEXT if "heads" not in o]
    said = cli("plan", *cut, "ablation=attn_knockout", "ablation.window=1", "--json").json()
    assert said[0]["written"] == {"tokens": 2 * 3 * 6 * 3, "anew": True}


def test_effects_on_texts_of_interventions_of_ones_own():
    rows = [
        {"id": f"r{i}", "clean": f"The city of {c} is in the country of", "corrupt": "", "target": " Belgium", "foil": " Italy"}
        for i, c in enumerate(("Antwerp", "Rome"))
    ]
    asked = ("toy", rows, {"zero": Edit("z", 0, 1, Scale(0.0))}, ["text_changed"])
    keys = {"metrics.span": "text", "generate.max_new_tokens": 4}
    with pytest.raises(UserError, match=r"may write 8 tokens \(1 interventions on 2 examples.*generate.max_total=7"):
        measure(*asked, **keys, **{"generate.max_total": 7})
    found = measure(*asked, **keys)
    assert found["metric"].eq("text_changed").all()
    assert found["value"].isin([0, 1]).all()
    assert found["value"].sum() > 0
