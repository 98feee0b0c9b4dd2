import numpy as np
import pandas as pd
import pytest

from tiny_ablation.store.schema import LAST


@pytest.fixture
def head_rows():
    """A function that makes a table of one head with some columns changed."""
    return _head_rows


def _head_rows(**changes):
    row = {
        "run_id": "r1",
        "seed": 0,
        "layer": 1,
        "head": 2,
        "scale": 0.0,
        "metric": "logit_diff",
        "value": 1.5,
        "condition": "facts",
        "model": "toy",
        "dataset": "facts",
        "replacement": "zero",
        "positions": "all",
        "direction": None,
        "n": 10,
        "baseline": 2.0,
        "delta": -0.5,
        "ci_low": np.nan,
        "ci_high": np.nan,
        "p_value": None,
        "q_value": np.nan,
        "null": None,
        "granularity": "head",
        "component": "z",
        "set": None,
        **dict.fromkeys(LAST, np.nan),
        "ci_shape": None,
    }
    return pd.DataFrame([row | changes])
