"""Run the tool on models whose circuit is known, and print whether it finds it; about eight minutes.

The models are a trained circuit among decoys, a pair of heads that stand in for each other, and compiled programs. Intervals
and false discoveries are counted on simulated effects. What this proves and what not: docs/selfcheck.md.
Exit code 1 when a bar is missed.

  tiny-ablate selfcheck
  tiny-ablate selfcheck --only planted tracr_sort --json
  tiny-ablate selfcheck --only statistics --times 4 --markdown    the table of docs/metrics-and-statistics.md
  tiny-ablate selfcheck device=cuda             on another device than the CPU
  tiny-ablate selfcheck --prompts DIR           write the inputs of the compiled programs, to run them by hand
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tiny_ablation.commands._console import add_overrides, parser, say, say_json
from tiny_ablation.commands._selfcheck import circuits
from tiny_ablation.commands._selfcheck.checks import Check, all_met, markdown, table
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.errors import ConfigError
from tiny_ablation.store.files import write_json
from tiny_ablation.version import __version__

STATISTICS, SPEED = "statistics", "speed"
PARTS = [*circuits.models(), circuits.PAIR_MODEL, STATISTICS, SPEED]
_HINT = "Results of this installation are not to be trusted where a bar is missed; please report it with the output of --json."


def main(args: list[str]) -> int:
    """Check, print, and return 1 where a bar is missed."""
    flags = parser("selfcheck", __doc__)
    add_overrides(flags)
    flags.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of: {', '.join(PARTS)}")
    flags.add_argument("--times", type=int, default=1, metavar="N", help="simulate N times as much, for figures as much finer")
    flags.add_argument("--json", action="store_true", help="print the results as JSON")
    flags.add_argument("--markdown", action="store_true", help="print the results as a table in Markdown")
    flags.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON there")
    flags.add_argument("--prompts", type=Path, metavar="DIR", help="only write the prompts of the compiled programs there")
    given = flags.parse_intermixed_args(args)
    if given.times < 1:
        raise ConfigError(f"selfcheck: --times={given.times} must be 1 or more")
    if given.prompts:
        say(*(str(circuits.write_prompts(m, given.prompts)) for m in circuits.models() if m.startswith("tracr_")))
        return 0
    start = time.perf_counter()
    checks = _checks([part for part in PARTS if part in (given.only or PARTS)], _machine(given.overrides), given.times)
    content = {
        "schema": 1,
        "version": __version__,
        "ok": all_met(checks),
        "seconds": round(time.perf_counter() - start, 1),
        "checks": [check.content() for check in checks],
    }
    if given.out:
        write_json(given.out, content)
    if given.json:
        say_json(content)
    elif given.markdown:
        say(*markdown(checks))
    else:
        missed = sum(check.ok is False for check in checks)
        barred = sum(check.ok is not None for check in checks)
        verdict = f"{missed} of {barred} bars missed. {_HINT}" if missed else f"All {barred} bars met."
        say(*table(checks), "", f"{verdict} ({content['seconds']:.0f} s)")
    return 0 if content["ok"] else 1


def _machine(overrides: Sequence[str]) -> list[str]:
    """What may be chosen: where to compute. What is computed is what the bars were set for."""
    if foreign := [o for o in overrides if not o.startswith(("device=", "device."))]:
        raise ConfigError(f"selfcheck: {foreign[0]} would change what is checked; only device=... may be set")
    return ["device=cpu", *overrides] if not any(o.startswith("device=") for o in overrides) else [*overrides]


def _checks(parts: Sequence[str], machine: Sequence[str], times: int) -> list[Check]:
    """All checks of the parts, with progress on a terminal; those of one name together, in the order of the first."""
    from tiny_ablation.commands._selfcheck import simulate, simulate_claims
    from tiny_ablation.report.terminal import Screen

    n_simulated = times * (simulate.n_families() + sum(trial.n for trial in simulate_claims.TRIALS))
    totals = {circuits.PAIR_MODEL: 1, STATISTICS: n_simulated, SPEED: 1}
    screen, found = Screen(), []
    with tempfile.TemporaryDirectory() as directory:
        for part in parts:
            with screen.progress(part, totals.get(part, len(circuits.KINDS) + 1)) as stage:
                shop = Workshop(Path(directory), machine, times, stage.advance)
                if part == circuits.PAIR_MODEL:
                    found += circuits.check_pair(shop)
                elif part == STATISTICS:
                    found += [*simulate.check_tables(shop), *simulate.check_trials(shop, simulate_claims.TRIALS)]
                elif part == SPEED:
                    found += simulate.check_speed(shop)
                else:
                    found += circuits.check_heads(shop, part)
    names = list(dict.fromkeys(check.name for check in found))
    return sorted(found, key=lambda check: names.index(check.name))
