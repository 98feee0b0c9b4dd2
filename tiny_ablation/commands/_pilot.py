"""What a finished run tells of effects that a larger one could find: their sizes, and how many groups each of them takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.commands._console import table
from tiny_ablation.errors import ConfigError

_SHOWN = 10


@dataclass(frozen=True)
class Pilot:
    """The effects of a finished run on its primary metric."""

    path: str
    metric: str
    groups: int  # of its examples
    # the largest sizes first: `site`, `delta`, `shrunken` (the strongest of a run look stronger than they are), `sd` (of the
    # groups' mean effects) and `size` (`shrunken` over `sd`)
    sites: Sequence[Mapping[str, Any]]

    def plan(self, groups: int, tests: int) -> dict[str, Any]:
        """What so many groups and tests would find of these effects, and how many groups each of the strongest takes."""
        import numpy as np

        from tiny_ablation.stats.power import groups_needed_by_each, powers_in_family

        sizes = np.array([site["size"] for site in self.sites])
        family = max(tests, len(sizes))
        needed = groups_needed_by_each(sizes, _SHOWN, family)
        return {
            "run": self.path,
            "metric": self.metric,
            "groups": self.groups,
            "sites": len(sizes),
            "finds": round(float(powers_in_family(sizes, groups, family).sum()), 1),
            "strongest": [{**site, "groups_needed": n} for site, n in zip(self.sites, needed, strict=False)],
        }


def read_pilot(directory: Path) -> Pilot:
    """The effects of the run in a directory, at its strongest intervention.

    Raises:
        ConfigError: its metric has no test, or its examples are of one group, so that it says nothing of sizes.
        ResultsError: there is no finished run.
    """
    import numpy as np

    from tiny_ablation.run import effects
    from tiny_ablation.store.reader import load_run
    from tiny_ablation.store.untrusted import reading

    run = load_run(directory)
    with reading(directory):
        metric, groups = str(run.summary["primary"]), int(run.summary["n_groups"])
        rows = effects.of_metric(run.impact, metric)
        rows = effects.at_scale(rows, effects.scales(rows)[0])
        index = effects.index_columns(run.impact)
    delta, shrunken, size = (rows[name].to_numpy(dtype=float) for name in ("delta", "shrunken", "effect_size"))
    known = np.isfinite(size) & np.isfinite(shrunken) & (delta != 0) & (size != 0)
    if not known.any():
        raise ConfigError(
            f"plan: {directory} has no effect on {metric} with a size: sizes need several groups of examples and a metric that "
            "is tested; name another run with --pilot, or state a size with --effect"
        )
    sites = [
        {"site": effects.label(row, index), "delta": d, "shrunken": s, "sd": d / e, "size": s * e / d}
        for row, d, s, e in zip(
            rows.loc[known].to_dict("records"), *(numbers[known].tolist() for numbers in (delta, shrunken, size)), strict=True
        )
    ]
    return Pilot(str(directory), metric, groups, sorted(sites, key=lambda site: -abs(site["size"])))


def pilot_lines(found: Mapping[str, Any], groups: int, tests: int) -> Iterator[str]:
    """What `Pilot.plan` found, for people."""
    yield ""
    yield f"  From {found['run']} ({found['groups']} groups), effects on {found['metric']}:"
    rows = [["site", "change", "shrunken", "sd of groups", "size", "groups needed"]]
    for site in found["strongest"]:
        needed = site["groups_needed"] or "more than 100,000"
        numbers = [f"{site[key]:+.3f}" for key in ("delta", "shrunken")]
        rows.append([site["site"], *numbers, f"{site['sd']:.3f}", f"{site['size']:+.2f}", str(needed)])
    yield from (f"  {line}" for line in table(rows))
    yield "    size: the shrunken change over the standard deviation of the groups' mean effects"
    yield f"    {groups} groups and {tests:,} tests are expected to find {found['finds']:g} of its {found['sites']} effects,"
    yield "    if a group has as many examples"
