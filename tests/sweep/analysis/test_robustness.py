"""Heads across conditions, by hand on made-up runs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tiny_ablation.errors import ResultsError
from tiny_ablation.report.figures import drawing
from tiny_ablation.report.figures.of_sweep import robustness_figure, robustness_matrix
from tiny_ablation.sweep.analysis import aggregate
from tiny_ablation.sweep.analysis.robustness import robustness, robustness_lines, sweep_robustness

N = 12  # examples, each its own group


def run(replacement, deltas, weights="raw", *, noise=0.01, examples=range(N), scales=(0.0,), **summary):
    """A finished run whose head h of layer l has the effect `deltas[l][h]`, give or take `noise`."""
    rng, rows = np.random.default_rng(0), []
    for (layer, head), delta in np.ndenumerate(np.asarray(deltas, dtype=float)):
        for scale in scales:
            for example in examples:
                effect = (1 - scale) * (delta + noise * rng.normal())
                rows.append(
                    {
                        "layer": layer,
                        "head": head,
                        "scale": scale,
                        "example_id": f"e{example}",
                        "group": f"g{example}",
                        "logit_diff": 2 + effect,
                        "logit_diff_baseline": 2.0,
                    }
                )
    return SimpleNamespace(
        over_heads=True,
        per_example=pd.DataFrame(rows),
        config={"model": {"weights": weights}},
        impact=pd.DataFrame({"replacement": [replacement, replacement]}),
        summary={"model": "m", "dataset": "d", "primary": "logit_diff", **summary},
        dir=SimpleNamespace(path=Path("somewhere")),
    )


ZERO = [[-3.0, 1.0, 0.0, -1.0], [0.5, 2.0, 0.0, -0.5]]
MEAN = [[-2.0, -1.0, 0.0, -1.5], [0.4, 0.0, 0.0, 0.5]]


def test_agreement_and_heads_by_hand():
    found = robustness([run("zero", ZERO), run("mean", MEAN)], k=3)
    pair = found.agreement.set_index(["condition_a", "condition_b"]).loc[("zero raw", "mean raw")]
    # Top three: zero L0H0 L1H1 L0H1; mean L0H0 L0H3 L0H1. Of the four in either, L0H0 and L0H3 have one sign.
    assert pair["jaccard"] == pytest.approx(2 / 4)
    signs = found.heads.set_index(["layer", "head"])
    assert signs.loc[(0, 0), ["n_top", "n_resolved", "holds"]].tolist() == [2, 2, True]
    assert signs.loc[(0, 1), ["n_top", "one_sign", "holds"]].tolist() == [2, False, False]
    assert not signs.loc[(0, 2), "holds"]  # no effect in either
    assert [(h["layer"], h["head"]) for h in found.summary["holds"]] == [(0, 0), (0, 3), (1, 0)]  # the safest first
    deltas = found.heads[["delta/zero raw", "delta/mean raw"]].to_numpy()
    assert pair["spearman"] == pytest.approx(spearmanr(deltas[:, 0], deltas[:, 1])[0])
    assert pair["sign_agreement"] in (0.5, 0.75)  # the sign of L1H1 under mean is noise


def test_a_condition_agrees_with_itself():
    found = robustness([run("zero", ZERO), run("mean", MEAN)], k=3).agreement
    own = found[found["condition_a"] == found["condition_b"]]
    assert (own[["spearman", "sign_agreement", "jaccard", "rank_biased_overlap"]].round(12) == 1).all().all()


def test_the_strongest_factor_and_the_shared_examples_are_compared():
    full = run("zero", ZERO, noise=0, scales=(0.0, 0.5))
    part = run("mean", ZERO, noise=0, examples=range(3, N))
    found = robustness([full, part], k=3)
    assert found.summary["n_examples"] == N - 3
    assert found.heads["delta/zero raw"].tolist() == pytest.approx(np.ravel(ZERO).tolist())
    # Without spread an interval is a point: every head with an effect holds.
    assert found.heads["holds"].tolist() == [delta != 0 for delta in np.ravel(ZERO)]


def test_raw_and_folded_are_conditions_and_seeds_are_averaged():
    runs = [run("zero", ZERO, noise=0), run("zero", np.array(ZERO) + 1, noise=0), run("zero", ZERO, "folded", noise=0)]
    found = robustness(runs)
    assert found.summary["conditions"] == ["zero raw", "zero folded"]
    assert found.heads.loc[0, "delta/zero raw"] == pytest.approx(-2.5)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run("mean", MEAN, model="other"), "one model; these have m, other"),
        (run("mean", MEAN, dataset="other"), "one dataset"),
        (run("zero", ZERO), "at least two replacements"),
        (run("mean", MEAN, examples=range(50, 60)), "no example"),
    ],
)
def test_what_cannot_be_compared_is_refused(other, message):
    with pytest.raises(ResultsError, match=message):
        robustness([run("zero", ZERO), other])


def test_a_sweep_of_other_questions_has_no_robustness():
    assert sweep_robustness([run("zero", ZERO), run("zero", MEAN, dataset="other")]) is None
    assert sweep_robustness([run("zero", ZERO), run("zero", MEAN)]) is None
    assert sweep_robustness([]) is None
    assert sweep_robustness([run("zero", ZERO), run("mean", MEAN)]) is not None


def test_seeds_that_draw_other_examples_leave_the_sweep_without_it_and_say_so(monkeypatch):
    """A sweep over ways of intervening and seeds, none of whose examples are in all runs, was not aggregated at all."""
    runs = [run(how, of, examples=part) for how, of in (("zero", ZERO), ("mean", MEAN)) for part in (range(4), range(4, 8))]
    monkeypatch.setattr(aggregate, "load_run", lambda path, check: runs[path])
    children = [SimpleNamespace(chosen=None, dir=SimpleNamespace(path=i)) for i in range(4)]
    found, notes = aggregate._robustness(children)
    assert found is None
    assert len(notes) == 1
    assert "fewer than two heads, or no example, in common" in notes[0]
    assert aggregate._robustness([children[0], children[2]])[1] == []


def test_words_and_figure(tmp_path):
    found = robustness([run("zero", ZERO), run("mean", MEAN), run("zero", ZERO, "folded")], k=3)
    first, second = robustness_lines(found.summary)
    assert "hold under all 3 conditions (zero raw, mean raw, zero folded)" in first
    assert "L0H0" in first
    assert "Jaccard" in second
    values = robustness_matrix(found.summary)
    by_pair = found.agreement.set_index(["condition_a", "condition_b"])
    assert values[1, 0] == by_pair.loc[("zero raw", "mean raw"), "spearman"]
    assert values[0, 1] == by_pair.loc[("zero raw", "mean raw"), "sign_agreement"]
    assert np.isnan(np.diag(values)).all()
    first, second = (drawing.write(robustness_figure(found.summary), tmp_path / name) for name in "ab")
    assert {path.suffix for path in first} == {".html", ".png", ".pdf", ".svg"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
