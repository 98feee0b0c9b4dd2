"""Named points on a plane: labels that can be read."""

import numpy as np

from tiny_ablation.document.figures import Points
from tiny_ablation.report.figures import points


def some(x, y, labels, **more):
    return Points(
        name="p",
        kind="k",
        title="t",
        note="n",
        x_title="x",
        y_title="y",
        x=np.array(x, float),
        y=np.array(y, float),
        labels=labels,
        shown=True,
        **more,
    )


def boxes(data):
    places = points._places(data)
    return {i: points._box(places[i], data.labels[i], spot) for i, spot in points.spots(data).items()}


def test_no_label_lies_upon_another_and_points_alone_have_one():
    rng = np.random.default_rng(0)
    for n in (2, 5, 12):
        data = some(rng.random(n), rng.random(n), [f"condition number {i}" for i in range(n)])
        found = list(boxes(data).values())
        assert found
        assert not any(points._meet(a, b) for i, a in enumerate(found) for b in found[:i])
    apart = some([0, 1, 0, 1], [0, 0, 1, 1], ["a", "b", "c", "d"])
    assert sorted(points.spots(apart)) == [0, 1, 2, 3]


def test_where_many_lie_together_the_one_farthest_from_the_diagonal_is_named():
    near = [0.9 - 0.005 * i for i in range(7)]
    data = some([0.0, *[0.5] * 7, 1.0], [0.0, *near, 1.0], ["a long name"] * 9, diagonal=True)
    assert 1 in points.spots(data)
    assert len(points.spots(data)) < 9


def test_every_name_is_told_under_the_pointer():
    data = some([0.5] * 7 + [0.0], [*(0.5 + 0.001 * i for i in range(7)), 0.0], [f"name {i}" for i in range(8)])
    [marks, _] = points.page(data).figure.data
    assert list(marks.hovertext) == data.labels
    assert sum(bool(text) for text in marks.text) == len(points.spots(data)) < 8
