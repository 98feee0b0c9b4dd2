from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tiny_ablation.ablations.pairs.interaction import pair_matrix
from tiny_ablation.report.figures import grid, of_run
from tiny_ablation.run.result import Result
from tiny_ablation.store.rundir import RunDir

_SUMMARY = {"primary": "logit_diff", "kind": "heads_pair_zero", "model": "m", "dataset": "d"}


def _data(table):
    return pair_matrix(Result(RunDir(Path()), table, _SUMMARY)).drawn


@pytest.fixture
def table(fake):
    """Three heads; one pair does more than the sum, one less, one is not resolved."""
    cells = [(0, 1, 0, 3, 0.5, 0.2), (0, 1, 2, 0, -0.8, 0.3), (0, 3, 2, 0, 0.1, 0.4)]
    row = fake.impact(1, 1, (0.0,)).query("metric == 'logit_diff'").iloc[0].to_dict()
    for name in ("layer", "head", "scale"):
        del row[name]
    index = ("layer_a", "head_a", "layer_b", "head_b")
    found = [
        {
            "run_id": "r",
            "seed": 0,
            **dict(zip(index, cell[:4], strict=True)),
            **row,
            "delta_a": 0.1,
            "delta_b": 0.2,
            "interaction": cell[4],
            "interaction_low": cell[4] - cell[5],
            "interaction_high": cell[4] + cell[5],
        }
        for cell in cells
    ]
    return pd.DataFrame(found)


def test_each_pair_has_one_cell(table):
    data = _data(table)
    assert data.rows == data.columns == ["L0H1", "L0H3", "L2H0"]
    expected = [[np.nan, 0.5, -0.8], [np.nan, np.nan, 0.1], [np.nan] * 3]
    [panel] = data.panels
    np.testing.assert_allclose(panel.values, expected)
    assert np.argwhere(panel.resolved).tolist() == [[0, 1], [0, 2]]
    assert data.limit == 0.8
    assert panel.hover[0][2][0] == "-0.800"
    assert panel.hover[0][2][4] == "[-1.100, -0.500]"


def test_a_pair_stands_in_one_cell_whichever_head_is_named_first(table):
    turned = table.rename(columns={"layer_a": "layer_b", "layer_b": "layer_a", "head_a": "head_b", "head_b": "head_a"})
    turned = turned[table.columns]
    whole, again = (_data(t) for t in (table, turned))
    np.testing.assert_allclose(whole.panels[0].values, again.panels[0].values)


def test_equal_tables_give_equal_bytes(tmp_path, table):
    found = []
    for name in ("a", "b"):
        of_run.write_figures(tmp_path / name, table, _SUMMARY)
        found.append([(tmp_path / name / "artifacts" / f"pair_matrix.{kind}").read_bytes() for kind in ("png", "html")])
    assert found[0] == found[1]


def test_only_resolved_cells_are_coloured(table):
    pale, cells, dots = grid.page(_data(table)).figure.data
    assert np.isnan(pale.z).tolist() == [[True, True, True], [True, True, False], [True, True, True]]
    assert pale.opacity < 0.5
    np.testing.assert_allclose(cells.z, [[np.nan, 0.5, -0.8], [np.nan] * 3, [np.nan] * 3])
    assert (list(dots.y), list(dots.x)) == ([1], [2])


def test_pairs_get_the_matrix(table):
    assert [figure.name for figure in of_run.run_figures(Result(RunDir(Path()), table, _SUMMARY))] == ["pair_matrix", "forest"]
