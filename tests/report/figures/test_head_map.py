import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, QuadMesh

from tiny_ablation.document import Figure
from tiny_ablation.document.figures import round_ticks
from tiny_ablation.errors import ResultsError
from tiny_ablation.report.figures import canvas, drawing, grid
from tiny_ablation.report.figures.head_map import scale_maps
from tiny_ablation.run.result import Result
from tiny_ablation.store.rundir import RunDir


def _draw(folder, table, **summary):
    page, png, *_ = drawing.write(Figure("head_map", "", "", _data(table, **summary)), folder)
    return png, page


def _data(table, **summary):
    words = {"primary": "logit_diff", "kind": "heads_zero", "model": "a model", "dataset": "facts", **summary}
    return scale_maps(Result(RunDir(Path()), table, words))


def _figure_in(page):
    source = re.search(r'<script type="application/json" data-figure="[^"]*">(.*?)</script>', page.read_text(), re.S)
    return json.loads(source[1])


def test_equal_tables_give_equal_bytes(tmp_path, fake):
    first = _draw(tmp_path / "a", fake.impact(4, 3))
    second = _draw(tmp_path / "b", fake.impact(4, 3))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_for_papers_it_is_drawn_without_a_title_and_the_same_each_time(tmp_path, fake, published, monkeypatch):
    monkeypatch.setattr(canvas, "save", published)
    for folder in ("a", "b"):
        drawing.write(Figure("head_map", "", "", _data(fake.impact(4, 3))), tmp_path / folder)
    for kind in ("pdf", "svg"):
        first, second = ((tmp_path / folder / f"head_map.{kind}").read_bytes() for folder in ("a", "b"))
        assert first == second
        assert b"Date" not in first
    text = (tmp_path / "a/head_map.svg").read_text()
    assert ">layer<" in text
    assert _data(fake.impact(4, 3)).title not in text


def test_pdf_embeds_fonts_that_publishers_take(tmp_path, fake, published, monkeypatch):
    monkeypatch.setattr(canvas, "save", published)
    drawing.write(Figure("head_map", "", "", _data(fake.impact(2, 2))), tmp_path)
    data = (tmp_path / "head_map.pdf").read_bytes()
    assert b"CIDFontType2" in data
    assert b"Type3" not in data


@pytest.mark.parametrize("limit", [1e-7, 0.034, 1, 1.5, 3.192, 5, 9.99, 123])
def test_ticks_of_colours_are_round_and_within(limit):
    ticks = round_ticks(limit)
    assert 5 <= len(ticks) <= 7
    assert ticks == [-tick for tick in reversed(ticks)]
    assert max(ticks) <= limit * (1 + 1e-9)
    assert all(len(f"{abs(tick):.6g}".strip("0.").replace(".", "").split("e")[0].lstrip("0")) <= 2 for tick in ticks)


def test_the_png_names_no_program_and_no_date(tmp_path, fake):
    png, _ = _draw(tmp_path, fake.impact(4, 3))
    chunks = png.read_bytes()
    assert b"tEXt" not in chunks
    assert b"tIME" not in chunks
    assert b"matplotlib" not in chunks.lower()


def test_the_page_opens_offline_with_one_plotly_per_directory(tmp_path, fake):
    _, page = _draw(tmp_path, fake.impact(4, 3))
    text = page.read_text()
    assert re.search(r'<script nonce="\w+" src="plotly.min.js"></script>', text)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert len(text) < 100_000
    assert (tmp_path / "plotly.min.js").stat().st_size > 1_000_000


def test_runs_of_a_user_share_one_plotly_and_a_damaged_one_is_replaced(tmp_path, fake, monkeypatch):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    for run in ("a", "b", "a"):
        _draw(tmp_path / run, fake.impact(4, 3))
    (shared,) = (tmp_path / "cache").rglob("plotly-*.js")
    copies = [tmp_path / run / "plotly.min.js" for run in ("a", "b")]
    assert all(copy.samefile(shared) for copy in copies)
    copies[0].write_text("half")  # of all, since they are one file
    _draw(tmp_path / "b", fake.impact(4, 3))
    assert copies[1].stat().st_size > 1_000_000
    assert copies[1].samefile(next((tmp_path / "cache").rglob("plotly-*.js")))


def test_without_a_cache_a_run_has_its_own_plotly(tmp_path, fake, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "file"))
    _draw(tmp_path / "run", fake.impact(4, 3))
    assert (tmp_path / "run" / "plotly.min.js").stat().st_size > 1_000_000


def test_of_many_scales_a_dozen_are_drawn_and_this_is_said(fake):
    """A map for each of thousands of scales took minutes to draw, and none of them could be read."""
    table = fake.impact(4, 3)
    table = table[table["scale"] == table["scale"].iloc[0]]
    many = pd.concat([table.assign(scale=i / 50) for i in range(50)], ignore_index=True)
    data = _data(many)
    names = [panel.name for panel in data.panels]
    assert len(names) == len(set(names)) == 12
    assert (names[0], names[-1]) == ("scale 0 (set to zero)", "scale 0.98")
    assert data.note.endswith("; 12 of 50 scales are shown")
    assert "shown" not in _data(fake.impact(4, 3)).note


def test_colours_are_symmetric_about_zero_in_both_renderings(tmp_path, fake):
    table = fake.impact(4, 3)
    _, page = _draw(tmp_path, table)
    axis = _figure_in(page)["layout"]["coloraxis"]
    assert axis["cmin"] == -axis["cmax"]
    assert axis["cmid"] == 0
    with canvas.settings():
        meshes = [m for axes in grid.static(_data(table)).axes for m in axes.collections if isinstance(m, QuadMesh)]
    coloured = [mesh for mesh in meshes if mesh.get_cmap().name == "tiny_ablate"]
    assert len(coloured) == 5  # two panels, pale and full, and the colour bar
    assert all(mesh.norm.vmin == -mesh.norm.vmax for mesh in coloured)


def test_one_panel_per_scale_the_strongest_first_and_none_at_scale_one(fake):
    assert [panel.name for panel in _data(fake.impact(4, 3, (1.0, 0.5, 0.0))).panels] == ["scale 0 (set to zero)", "scale 0.5"]


def test_an_effect_whose_interval_holds_zero_is_a_dot_in_a_pale_cell(tmp_path, fake):
    table = fake.impact(2, 2, (0.0,))
    table["ci_low"], table["ci_high"] = 0.1, 0.3
    table.loc[(table["layer"] == 1) & (table["head"] == 0), "ci_low"] = -0.1
    table.loc[(table["layer"] == 0) & (table["head"] == 1), "ci_low"] = 0.0
    with canvas.settings():
        axes = grid.static(_data(table)).axes[0]
    dots = next(found for found in axes.collections if isinstance(found, PathCollection))
    pale, full = [found for found in axes.collections if isinstance(found, QuadMesh)][-2:]
    assert pale.get_alpha() < 0.5
    assert np.ma.getmaskarray(pale.get_array()).tolist() == (~np.ma.getmaskarray(full.get_array())).tolist()
    assert sorted(map(tuple, dots.get_offsets().tolist())) == [(0.0, 1.0), (1.0, 0.0)]
    _, page = _draw(tmp_path, table)
    pale, cells, marks = _figure_in(page)["data"]
    assert pale["hoverinfo"] == "skip"
    assert (marks["x"], marks["y"]) == ([1, 0], [0, 1])
    assert "unresolved" in marks["hovertemplate"]
    assert "unresolved" not in cells["hovertemplate"]


def test_cells_hold_the_numbers_of_the_table(fake):
    table = fake.impact(4, 3, (0.0,))
    panel = _data(table).panels[0]
    for row in table[table["metric"] == "logit_diff"].to_dict("records"):
        assert panel.values[row["layer"], row["head"]] == row["delta"]
        assert panel.hover[row["layer"]][row["head"]][0] == f"{row['delta']:+.3f}"


def test_a_head_that_was_not_measured_is_a_gap_not_a_zero(fake):
    table = fake.impact(4, 3, (0.0,))
    data = _data(table[~((table["layer"] == 2) & (table["head"] == 1))])
    assert np.argwhere(np.isnan(data.panels[0].values)).tolist() == [[2, 1]]
    assert data.has_gaps
    assert not data.panels[0].resolved[2, 1]


def test_names_from_files_are_shown_as_they_are(tmp_path, fake):
    png, page = _draw(tmp_path, fake.impact(3, 2), model=fake.hostile)
    assert png.stat().st_size > 10_000
    assert "<script>alert(1)</script>" not in page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.read_text()


@pytest.mark.parametrize("shape", [(30, 9), (12, 12), (24, 16), (48, 25), (1, 1)])
def test_every_shape_has_readable_cells_and_ticks_apart(fake, shape):
    with canvas.settings():
        figure = grid.static(_data(fake.impact(*shape, (0.0, 0.5))))
    axes, (width, height) = figure.axes[0], figure.get_size_inches()
    box = axes.get_position()
    assert box.height * height / shape[0] >= 0.14  # inches a row
    assert box.width * width / shape[1] >= 0.14
    assert len(axes.get_yticks()) <= 16
    assert box.y0 > 0
    assert box.y1 < 1


def test_a_metric_that_is_not_there_is_refused_with_those_that_are(tmp_path, fake):
    with pytest.raises(ResultsError, match="logit_diff"):
        _draw(tmp_path, fake.impact(2, 2), primary="nope")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_nothing_but_scale_one_shows_that(fake):
    data = _data(fake.impact(2, 2, (1.0,)))
    assert [panel.name for panel in data.panels] == ["scale 1"]
    assert not data.panels[0].resolved.any()


def test_a_head_beyond_any_model_is_refused_before_memory_is_taken(fake):
    table = fake.impact(2, 2)
    table.loc[0, "head"] = 2**31 - 1
    with pytest.raises(ResultsError, match="heads of no model"):
        _data(table)


def test_two_interventions_in_one_table_are_refused(fake):
    import pandas as pd

    table = fake.impact(2, 2)
    with pytest.raises(ResultsError, match="several rows per head"):
        _data(pd.concat([table, table]))


def test_a_map_without_a_colour_keeps_its_colour_bar(fake):
    table = fake.impact(2, 2, (0.0,)).assign(ci_low=-9.0, ci_high=9.0)
    with_colours = grid.page(_data(fake.impact(2, 2, (0.0,)))).figure.data
    traces = grid.page(_data(table)).figure.data
    assert len(traces) == len(with_colours) + 1
    assert traces[-1].marker.coloraxis == "coloraxis"
    assert list(traces[-1].x) == [None]
