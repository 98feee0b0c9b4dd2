"""Every cell of a sweep that screens measures what the screening of any of them chose, so that conditions compare.

The screenings of all cells are made before the first cell runs, in the process that starts the sweep, and kept in
`screens.json`: each is known by the digest of its run, so a sweep that was stopped goes on with the ones it has. What the
others chose becomes part of a cell's config (`ablation.screen_also`), and of its identity.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tiny_ablation.ablations.shared.screening import ScreenKeys, site_names
from tiny_ablation.errors import ResultsError, UserError
from tiny_ablation.run.spec import RunSpec
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.sweep.plan import Planned, weights_of

Screen = Mapping[str, Any]  # `component`, the names of all `sites`, and of those `chosen`


def with_unions(path: Path, planned: Planned, tick: Callable[[int], None]) -> Planned:
    """The plan in which every cell that screens also measures what the other cells of its model and table chose.

    This process has claimed the sweep's directory `path`; `tick` is called with 1 when a cell was screened.
    """
    specs, cells = [*planned.specs], [*planned.plan.cells]
    screens = _screens(path, {i: spec for i, spec in enumerate(specs) if is_screened(spec)}, tick)
    groups: dict[str, list[int]] = {}  # cells that are compared site by site
    for i, screen in screens.items():
        group = f"{specs[i].settings.root.model!r} {specs[i].table} {screen['component']}"
        groups.setdefault(group, []).append(i)
    for members in groups.values():
        union = {site for i in members for site in screens[i]["chosen"]}
        for i in members if len(members) > 1 else ():
            # Its own as well: whatever it chooses by the last digit of an estimate, it measures these.
            also = tuple(site for site in screens[i]["sites"] if site in union)
            cells[i], specs[i] = replace(cells[i], also=also), _with_sites(specs[i], also)
    return replace(planned, plan=replace(planned.plan, cells=tuple(cells)), specs=specs)


def is_screened(spec: RunSpec) -> bool:
    """Whether the run measures only what a screening chooses."""
    return bool(getattr(spec.settings.root.ablation, "screen", None))


def _screens(path: Path, specs: Mapping[int, RunSpec], tick: Callable[[int], None]) -> dict[int, Screen]:
    """What each cell's screening says, as far as it can be made: a cell that cannot run says so when its turn comes."""
    if len(specs) < 2:
        return {}
    known, found = _read(path), {}
    for (i, spec), weights in zip(specs.items(), weights_of([*specs.values()]), strict=True):
        tick(1)
        if weights is None:
            continue
        digest = spec.identity(*weights).digest
        if digest not in known:
            try:
                known[digest] = _screen(spec)
            except UserError:
                continue
            with keeping(path):
                write_sealed(SweepDir(path).screens, known)
        found[i] = known[digest]
    return found


def _read(path: Path) -> dict[str, Any]:
    """The screenings that are known by the digests of their runs; none where the file is missing or damaged."""
    try:
        content = read_sealed(SweepDir(path).screens)
    except ResultsError:
        return {}
    known = {}
    for digest, screen in content.items():
        if isinstance(screen, Mapping) and isinstance(screen.get("component"), str):
            lists = [screen.get(name) for name in ("sites", "chosen")]
            if all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
                known[digest] = screen
    return known


def _screen(spec: RunSpec) -> Screen:
    from tiny_ablation.run.prepare import prepare_run

    (estimates,) = (arm.estimates for arm in prepare_run(spec).arms if arm.estimates)
    names = site_names(estimates)
    return {"component": estimates.component, "sites": [*names.values()], "chosen": [names[site] for site in estimates.top]}


def _with_sites(spec: RunSpec, sites: Sequence[str]) -> RunSpec:
    """The run with these sites in addition to the ones that its config names."""
    settings, ablation = spec.settings, cast("ScreenKeys", spec.settings.root.ablation)
    named = [*(ablation.screen_also or ()), *sites]
    root = replace(settings.root, ablation=replace(ablation, screen_also=named))
    plain = settings.plain | {"ablation": settings.plain["ablation"] | {"screen_also": named}}
    return replace(spec, settings=replace(settings, root=root, plain=plain))
