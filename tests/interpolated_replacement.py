"""A replacement for judging gradients: a small step towards what another replacement puts in."""

from tiny_ablation.engine.edits import Replacement


class Towards(Replacement):
    """A step of `share` of the way from the run's own value to that of `goal`, or to zero."""

    name = "towards"

    def __init__(self, share, goal=None):
        self.share, self._goal = share, goal
        self.sources = None if goal is None else goal.sources
        self.lookup = None if goal is None else goal.lookup

    def value(self, current, source, edit):
        goal = 0 if self._goal is None else self._goal.value(current, source, edit)
        return current + self.share * (goal - current)

    def tag(self, example, position):
        return None if self._goal is None else self._goal.tag(example, position)
