import numpy as np
import pandas as pd
import pytest

from tiny_ablation.errors import GuardError
from tiny_ablation.store import schema

HEAD_FIRST = ("run_id", "seed", "layer", "head", "scale", "metric", "value")
LAYER_FIRST = ("run_id", "seed", "layer", "granularity", "metric", "value")


def test_first_columns_are_the_contract():
    assert schema.TABLES["head_impact"].first == HEAD_FIRST
    assert schema.TABLES["layer_impact"].first == LAYER_FIRST


def test_all_columns_of_heads_and_layers():
    tail = (
        "condition",
        "model",
        "dataset",
        "replacement",
        "positions",
        "direction",
        "n",
        "baseline",
        "delta",
        "ci_low",
        "ci_high",
        "p_value",
        "q_value",
        "null",
    )
    last = ("effect_size", "shrunken", "selected_low", "selected_high", "p_equivalent", "q_equivalent", "ci_shape")
    assert schema.TABLES["head_impact"].columns == (*HEAD_FIRST, *tail, "granularity", "component", "set", *last)
    assert schema.TABLES["layer_impact"].columns == (*LAYER_FIRST, *tail, "component", "set", *last)


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
def test_no_table_has_a_column_twice(table):
    assert len(set(table.columns)) == len(table.columns)
    assert set(table.key) <= set(table.columns)


def test_conform_orders_and_casts(head_rows):
    frame = head_rows(scale=1, n=np.int64(7))
    result = schema.conform(frame[frame.columns[::-1]], "head_impact")
    assert tuple(result.columns) == schema.TABLES["head_impact"].columns
    types = result.dtypes.astype(str)
    assert types[["seed", "layer", "n", "scale", "p_value"]].tolist() == ["int64", "int32", "int32", "float64", "float64"]
    assert result["set"].isna().all()
    assert types["set"] == types["run_id"] == "str"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 1.5}, "head_impact.layer must hold whole numbers"),
        ({"layer": None}, "head_impact.layer must hold whole numbers"),
        ({"head": 2**40}, "head_impact.head holds a number that int32 cannot"),
        ({"value": "1.0"}, "head_impact.value must hold numbers"),
        ({"value": np.inf}, "head_impact.value holds an infinite"),
        ({"metric": 3}, "head_impact.metric must hold text, not 3"),
        ({"model": None}, "head_impact.model is missing in 1 rows"),
        ({"extra": 1}, "column 'extra' is not in the schema"),
    ],
)
def test_conform_names_the_wrong_column(head_rows, change, message):
    with pytest.raises(GuardError, match=message):
        schema.conform(head_rows(**change), "head_impact")


def test_conform_names_the_missing_column(head_rows):
    with pytest.raises(GuardError, match="head_impact: the column 'ci_low' is missing"):
        schema.conform(head_rows().drop(columns="ci_low"), "head_impact")


def test_conform_refuses_one_site_twice(head_rows):
    with pytest.raises(GuardError, match=r"1 rows repeat a site and metric.*'head': 2"):
        schema.conform(pd.concat([head_rows(), head_rows(value=9.0)]), "head_impact")


def test_examples_conform():
    frame = pd.DataFrame(
        {
            "kl_div": [0.5],
            "kl_div_baseline": [0],
            "prediction": [" Paris"],
            "prediction_baseline": [None],
            "layer": [0],
            "head": [1],
            "scale": [0.5],
            "run_id": ["r"],
            "seed": [1],
            "example_id": ["e"],
            "group": ["g"],
            "template": [None],
            "replacement": ["zero"],
            "positions": ["all"],
            "direction": ["clean"],
        }
    )
    result = schema.conform_examples(frame, "head_impact", ["kl_div"])
    assert list(result.columns) == [
        "run_id",
        "seed",
        "example_id",
        "group",
        "template",
        "layer",
        "head",
        "scale",
        "replacement",
        "positions",
        "direction",
        "kl_div",
        "kl_div_baseline",
        "prediction",
        "prediction_baseline",
    ]
    assert result["kl_div_baseline"].dtype == "float64"


def test_every_table_names_its_sites_by_columns_that_no_other_table_has():
    sites = {table.site: name for name, table in schema.TABLES.items()}
    assert len(sites) == len(schema.TABLES)
    assert all("scale" not in site for site in sites)
    assert set(schema.INDEX) == {*(column for site in sites for column in site), "scale"}
