import json
import re
from types import SimpleNamespace

from tiny_ablation.ablations.circuit.sections import faithfulness
from tiny_ablation.report.figures import drawing, style


def circuit():
    def point(fraction, size, f, left):
        return {
            "fraction": fraction,
            "size": size,
            "faithfulness": f,
            "faithfulness_low": f - 0.05,
            "faithfulness_high": f + 0.1,
            "random_faithfulness": f / 3,
            "left": left,
            "left_low": left - 0.1,
            "left_high": left + 0.1,
            "random_left": None,
        }

    points = [point(0.0, 0, 0.0, 1.0), point(0.1, 1, 0.4, 0.7), point(1.0, 10, 1.0, 0.0)]
    return {
        "metric": "logit_diff",
        "replacement": "mean",
        "n_heads": 10,
        "n_examples": 8,
        "rankings": {"signed": {"points": points}, "absolute": {"points": points}},
    }


def draw(folder):
    summary = {"circuit": circuit(), "kind": "circuit", "model": "<b>m</b>", "dataset": "d"}
    source = SimpleNamespace(summary=summary, title="<b>title</b>", percent="95 %")
    return drawing.write(faithfulness(source), folder)


def test_equal_circuits_give_equal_bytes(tmp_path):
    first, second = (draw(tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_curves_hold_the_numbers_and_leave_out_what_a_log_axis_cannot_show(tmp_path):
    source = re.search(r'data-figure="[^"]*">(.*?)</script>', draw(tmp_path)[0].read_text(), re.S)
    traces = json.loads(source[1])["data"]
    lines, bands = ([t for t in traces if ("fill" in t) == filled] for filled in (False, True))
    assert [trace["name"] for trace in lines[:4]] == [
        "signed ranking",
        "random, layers as signed",
        "absolute ranking",
        "random, layers as absolute",
    ]
    kept, random = lines[:2]
    assert (kept["x"], kept["y"]) == ([0.1, 1.0], [0.4, 1.0])
    assert kept["text"][0] == "<b>signed ranking</b><br>1 heads: 0.400<br>95 % interval [0.350, 0.500]"
    assert [round(y, 6) for y in bands[0]["y"]] == [0.5, 1.1, 0.95, 0.35]
    assert len(bands) == 4  # random circuits have no interval
    assert random["line"]["color"] == style.UNRESOLVED != kept["line"]["color"]
    assert lines[4]["y"] == [0.7, 0.0]
