"""Layer profiles, scales, causal traces, templates, verification, asymmetry and the timeline: numbers against the tables."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tiny_ablation.ablations.patching import figures as patching
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.document import Section
from tiny_ablation.document.figures import Lines
from tiny_ablation.report.figures import canvas, drawing, grid, lines, of_run, of_templates, points
from tiny_ablation.report.figures.head_map import scale_maps
from tiny_ablation.run.result import Result
from tiny_ablation.store.rundir import RunDir


@pytest.fixture
def source(tmp_path, fake):
    """A run of a given impact table, in a directory of its own."""

    def make(table, **summary):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        return Result(RunDir(tmp_path), table, fake.summary(table, **summary))

    return make


def _names(source):
    return [figure.name for figure in of_run.run_figures(source)]


def _trace_table(fake, directions=("clean_to_corrupt",)):
    row = fake.impact(1, 1, (0.0,)).query("metric == 'logit_diff'").iloc[0].to_dict()
    keep = {k: v for k, v in row.items() if k not in ("layer", "head", "scale", "granularity", "direction", "run_id", "seed")}
    found = []
    for direction in directions:
        for g, granularity in enumerate(("layer_resid", "mlp_out", "attn_out")):
            for layer in range(4):
                for p, position in enumerate(("last", "subject_last", "subject_first")):
                    delta = 0.1 * layer - 0.05 * p + 0.01 * g
                    found.append(
                        {
                            "run_id": "r",
                            "seed": 0,
                            "layer": layer,
                            "position": position,
                            "granularity": granularity,
                            **keep,
                            "direction": direction,
                            "delta": delta,
                            "ci_low": delta - 0.1,
                            "ci_high": delta + 0.1,
                        }
                    )
    return pd.DataFrame(found)


def test_a_layer_profile_has_a_panel_per_granularity_and_a_band(source, fake):
    table = fake.layer_impact()
    data = of_run.layer_profile(source(table))
    assert [panel.name for panel in data.panels] == ["attn_out", "mlp_out"]
    line = data.panels[1].lines[0]
    rows = table[(table["metric"] == "logit_diff") & (table["granularity"] == "mlp_out")].sort_values("layer")
    for values, column in ((line.y, "delta"), (line.low, "ci_low"), (line.high, "ci_high"), (line.x, "layer")):
        np.testing.assert_array_equal(values, rows[column])
    np.testing.assert_array_equal(line.resolved, (rows["ci_low"] > 0) | (rows["ci_high"] < 0))
    assert _names(source(table))[:1] == ["layer_profile"]


def test_two_directions_are_two_lines(source, fake):
    table = fake.layer_impact()
    both = pd.concat([table.assign(direction="a"), table.assign(direction="b", delta=-table["delta"])])
    panel = of_run.layer_profile(source(both)).panels[0]
    assert [line.name for line in panel.lines] == ["a", "b"]
    np.testing.assert_array_equal(panel.lines[0].y, -panel.lines[1].y)


def test_scales_show_the_strongest_heads_at_every_factor(source, fake):
    table = fake.impact(4, 3, (0.0, 0.5, 1.0))
    data = of_run.scales(source(table))
    assert len(data.panels) == 6
    rows = table[(table["metric"] == "logit_diff") & (table["scale"] == 0)]
    first = rows.loc[rows["delta"].abs().idxmax()]
    assert data.panels[0].name == f"L{first['layer']}H{first['head']}"
    assert data.panels[0].lines[0].x.tolist() == [0.0, 0.5, 1.0]
    assert data.panels[0].lines[0].y[0] == first["delta"]
    assert "scales" in _names(source(table))
    assert "scales" not in _names(source(fake.impact(4, 3, (0.0, 1.0))))


def test_a_trace_has_the_published_layout(source, fake):
    table = _trace_table(fake)
    data = patching.trace(source(table, kind="causal_trace"), "indirect effect")
    assert data.rows == ["subject first", "subject last", "last"]
    assert data.columns == ["0", "1", "2", "3"]
    names = ["residual stream (layer_resid)", "MLP outputs (mlp_out)", "attention outputs (attn_out)"]
    assert [panel.name for panel in data.panels] == names
    np.testing.assert_allclose(data.panels[1].values[:, 2], [0.11, 0.16, 0.21])
    assert data.panels[1].resolved[:, 2].all()
    assert not data.panels[0].resolved[2, 1]  # 0.1 with an interval that begins at 0
    assert data.colour.startswith("indirect effect")
    assert _names(source(table, kind="causal_trace")) == ["trace", "forest"]


def test_an_answer_of_its_own_does_not_hide_the_strongest_sites(source, fake, monkeypatch):
    own = [Section("Own", headline="The answer.")]
    for kind, shown in (("heads_zero", True), ("circuit", False)):  # circuits hold each other: none is the strongest
        monkeypatch.setattr(type(find_ablation(kind)), "sections", lambda *_: own)
        assert ("forest" in _names(source(fake.layer_impact(), kind=kind))) is shown


def test_both_directions_of_a_trace_are_panels(source, fake):
    data = patching.trace(source(_trace_table(fake, ("clean_to_corrupt", "corrupt_to_clean"))), "")
    residual = "residual stream (layer_resid)"
    assert [panel.name for panel in data.panels][:2] == [f"{residual}, clean_to_corrupt", f"{residual}, corrupt_to_clean"]


def _by_template(fake, source, table, sites, index):
    """A run of three templates, three examples of a, two of b and one of c, and its examples."""
    told = [{"template": t, "n": n} for t, n in (("a", 3), ("b", 2), ("c", 1))]
    made = source(table, baseline_by_template=told)
    rng = np.random.default_rng(0)
    rows = [(*site, t, rng.normal(), 1.0) for site in sites for t in "aaabbc"]
    frame = pd.DataFrame(rows, columns=[*index, "template", "logit_diff", "logit_diff_baseline"])
    frame.to_parquet(made.run.per_example)
    by_hand = frame.groupby([*index, "template"])["logit_diff"].mean() - 1
    return made, by_hand


def test_every_template_has_a_map_of_its_examples_in_the_same_colours(source, fake):
    sites = [(layer, head, scale) for layer in range(2) for head in range(2) for scale in (0.0, 0.5)]
    table = fake.impact(2, 2, (0.0, 0.5))
    table.loc[(table["layer"] == 1) & (table["head"] == 0), ["ci_low", "ci_high"]] = -9.0, 9.0
    made, by_hand = _by_template(fake, source, table, sites, ["layer", "head", "scale"])
    data = of_templates.head_maps(made)
    assert [panel.name for panel in data.panels] == [
        "a (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}3)",
        "b (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}2)",
    ]
    for panel, name in zip(data.panels, "ab", strict=True):
        for layer, head, scale in sites:
            if scale == 0.0:
                assert panel.values[layer, head] == pytest.approx(by_hand[layer, head, scale, name])
        assert not panel.resolved[1, 0]  # over all examples it cannot be told from none
    assert data.limit == pytest.approx(by_hand.loc[:, :, 0.0, ["a", "b"]].abs().max())
    effect = table.query("metric == 'logit_diff' and layer == 0 and head == 1 and scale == 0")["delta"].item()
    assert data.panels[0].hover[0][1][1:] == ("3", f"{effect:+.3f}")
    assert "templates" in _names(made)
    made.summary["baseline_by_template"][1]["n"] = 1
    assert "templates" not in _names(made)  # one example is no template


def test_every_template_has_a_layer_profile(source, fake):
    sites = [(layer, name) for layer in range(12) for name in ("attn_out", "mlp_out")]
    made, by_hand = _by_template(fake, source, fake.layer_impact(), sites, ["layer", "granularity"])
    data = of_templates.profiles(made)
    assert [panel.name for panel in data.panels] == [
        "a (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}3)",
        "b (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}2)",
    ]
    line = data.panels[1].lines[1]
    assert line.name == "mlp_out"
    np.testing.assert_allclose(line.y, [by_hand[layer, "mlp_out", "b"] for layer in range(12)])
    rows = made.impact.query("metric == 'logit_diff' and granularity == 'mlp_out'").sort_values("layer")
    np.testing.assert_array_equal(line.resolved, (rows["ci_low"] > 0) | (rows["ci_high"] < 0))


def test_other_sites_stand_by_template_in_one_map(source, fake):
    table = _trace_table(fake)
    index = ["layer", "position", "granularity"]
    sites = list(table[index].drop_duplicates().itertuples(index=False, name=None))
    table.loc[table["delta"] == table["delta"].max(), "ci_low"] = -0.1
    made, by_hand = _by_template(fake, source, table, sites, index)
    data = of_templates.others(made)
    assert data.columns == ["a", "b"]
    assert len(data.rows) == 12
    assert data.rows[0] == "L3 last attn_out"  # the largest effect over all examples
    np.testing.assert_allclose(data.panels[0].values[0], [by_hand[3, "last", "attn_out", t] for t in "ab"])
    assert "the 2 templates of 3 with the most examples" in data.note
    assert "(n = 2 to 3)" in data.note
    assert data.panels[0].resolved.all(1).tolist() == [False] + 11 * [True]


@pytest.mark.parametrize("n", [1, 2, 5, 8, 12])
def test_small_maps_of_many_templates_fit_a_page_of_paper(source, fake, n):
    whole = scale_maps(source(fake.impact(30, 9, (0.0,))))
    [panel] = whole.panels
    with canvas.settings():
        figure = grid.static(dataclasses.replace(whole, panels=[panel] * n))
    width, height = figure.get_size_inches()
    assert width < 8
    assert height < 12.5
    boxes = [axes.get_position() for axes in figure.axes]
    assert len(boxes) == n + 1
    for box in boxes:
        assert min(box.x0, box.y0, 1 - box.x1, 1 - box.y1) >= 0
    assert min(box.width * width / 9 for box in boxes[:n]) > 0.12


def test_verification_sets_both_computations_against_each_other(source, fake):
    made = source(fake.impact(2, 2, (0.0,)))
    sites = [{"site": f"L0 H{i}", "effect_main": 0.5 * i, "effect_verify": 0.5 * i + 1e-6} for i in range(3)]
    content = {
        "sites": sites,
        "n_examples": 4,
        "verdict": "ok",
        "max_abs_diff": 1e-6,
        "device_main": "cpu",
        "device_verify": "ref",
    }
    made.run.verify.write_text(json.dumps(content))
    data = of_run.verification(made, "logit_diff")
    np.testing.assert_allclose(data.y - data.x, -1e-6, atol=1e-12)
    assert "verdict: ok; largest difference of any value 1.0e-06" in data.note
    assert "verify" in _names(made)


def test_asymmetry_marks_what_cannot_be_told_from_the_line(source, fake):
    made = source(fake.layer_impact())
    pd.DataFrame(
        {
            "layer": [0, 1, 2],
            "granularity": ["mlp_out"] * 3,
            "n": 5,
            "restoring": [0.5, 0.2, np.nan],
            "breaking": [0.1, 0.2, 0.1],
            "asymmetry_low": [0.2, -0.1, 0.0],
            "asymmetry_high": [0.6, 0.1, 0.1],
        }
    ).to_parquet(made.run.metrics / "asymmetry.parquet")
    data = patching.asymmetry(made, patching.asymmetry_rows(made))
    assert (data.x.tolist(), data.y.tolist(), data.unsure.tolist()) == ([0.1, 0.2], [0.5, 0.2], [False, True])
    assert data.labels == ["L0 mlp_out", "L1 mlp_out"]
    grey = points.page(data).figure.data[2]
    assert (grey.marker.symbol, list(grey.x)) == ("circle-open", [0.2])


def test_the_timeline_leaves_out_the_stage_that_draws_it(source, fake):
    made = source(fake.impact(2, 2, (0.0,)))
    stage = {"cpu_s": 1.0, "rss_bytes": 2**30}
    stages = {
        "prepare": {"wall_s": 2.0, **stage},
        "measure": {"wall_s": 4.0, **stage, "prompt_tokens_per_s": 1234.5, "tokens": 4000, "tokens_per_s": 1000.0},
        of_run.DRAWING: {"wall_s": 9.0, **stage},
    }
    made.run.profile.write_text(json.dumps({"stages": stages}))
    data = of_run.timeline(made)
    assert [(bar.label, bar.start, bar.end) for bar in data.bars] == [("prepare", 0, 2), ("measure", 2, 6)]
    assert data.bars[1].beside == "4.0 s, 1.00 GiB, 0.2 cores, 1,000 tokens/s"
    assert data.note == "6.0 s in all before the figures were drawn; measured 1,234 tokens of interventions x prompts a second"


@pytest.mark.slow
def test_every_figure_is_drawn_twice_to_the_same_bytes(source, fake, tmp_path):
    for made in (source(_trace_table(fake), kind="causal_trace"), source(fake.layer_impact()), source(fake.impact(4, 3))):
        first, again = (
            [path.read_bytes() for figure in of_run.run_figures(made) for path in drawing.write(figure, tmp_path / name)]
            for name in "ab"
        )
        assert first == again
        assert len(first) >= 4


@pytest.mark.parametrize("n_layers", [4, 30])
def test_wide_maps_are_stacked_and_stay_on_the_page(source, fake, n_layers):
    table = _trace_table(fake)
    more = pd.concat([table.assign(layer=table["layer"] + 4 * i) for i in range(-(-n_layers // 4))])
    data = patching.trace(source(more), "")
    figure = grid.static(data)
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes[:3]}) == (1 if n_layers == 30 else 3)
    assert figure.get_size_inches()[0] < 9
    for axes in figure.axes:
        box = axes.get_position()
        assert box.x0 >= 0
        assert box.x1 <= 1
        assert box.y0 >= 0
        assert box.y1 <= 1


def test_lines_of_one_name_look_alike_in_all_panels(source, fake):
    table = fake.layer_impact()
    both = pd.concat([table.assign(direction="a"), table.assign(direction="b")])
    data = of_run.layer_profile(source(both))
    assert lines.look(data, "a") != lines.look(data, "b")
    drawn = [t for t in lines.page(data).figure.data if t.mode == "lines+markers"]
    assert [t.line.color for t in drawn] == [lines.look(data, t.name)[0] for t in drawn]
    assert [t.name for t in drawn if t.showlegend] == ["a", "b"]


@pytest.mark.parametrize(("n", "drawn"), [(1, 1), (12, 12), (13, 7), (3000, 12)])
def test_of_many_ticks_a_few_are_drawn(n, drawn):
    ticks = tuple(float(i) for i in range(n))
    found = Lines(name="f", title="t", note="n", kind="k", x_title="x", y_title="y", panels=[], ticks=ticks).labelled
    assert len(found) == drawn
    assert found[0] == 0
    assert set(found) <= set(ticks)
