"""What stands between a run's numbers and a reader's conclusion, as far as the run itself can tell."""

from collections.abc import Mapping
from typing import Any

_FEW_GROUPS = 20  # with a dozen, 95 % intervals of strongly skewed effects were measured to cover 91 %
_LOW_ACCURACY = 0.5

_VALUES = {
    "zero": "Zero is a value that the component may never take by itself, so later layers may fail for "
    "being shown something unusual as well as for missing what it says. Mean or resample "
    "ablation asks a milder question.",
    "mean": "The mean removes what varies between examples, and leaves what is the same in all.",
    "resample": "Another example's value brings that example's information along: an effect mixes loss and misdirection.",
    "patch": "Patching shows what differs between the two prompts of a pair, not what they share.",
    "noise": "Effects depend on how strong the noise is; other strengths may give other results.",
}


def limitations(summary: Mapping[str, Any]) -> list[str]:
    """Threats to validity, those that this run's own numbers raise first.

    Args:
        summary: the content of `metrics/summary.json`.
    """
    found = [*_from_numbers(summary)]
    replaced = str(summary["intervention"].get("value", ""))
    found += [text for name, text in _VALUES.items() if name in replaced.lower()]
    found.append(
        "Sites are intervened on one at a time: where two can stand in for each other, each alone may "
        "look unimportant, and later heads may make up for what was removed."
    )
    found.append(
        "The strongest of many measured sites are partly the luckiest. Their intervals allow for the choice and their shrunken "
        "sizes say what to expect; measuring them again on a held-out split (stats.confirm) says it best."
    )
    found.append(
        f"The result is about {summary['model']} on the {summary['n_examples']} examples used, and says "
        "nothing by itself about other models, wordings or tasks."
    )
    return found


def _from_numbers(summary: Mapping[str, Any]) -> list[str]:
    found = []
    if summary.get("resolution"):
        found.append(f"No correction for multiple tests: {summary['resolution']}")
    if summary["n_groups"] < _FEW_GROUPS:
        found.append(
            f"Examples come in {summary['n_groups']} groups. Intervals are clustered by group, and with "
            f"fewer than {_FEW_GROUPS} those of strongly skewed effects tend to be too short."
        )
    accuracy = (summary["baseline"].get("accuracy") or {}).get("mean")
    if accuracy is not None and accuracy < _LOW_ACCURACY:
        found.append(
            f"The model answers only {100 * accuracy:.0f} % of the examples correctly, so much of what is "
            "measured is how it fails."
        )
    if summary.get("seed_effect") == "none":
        found.append("The seed changes nothing here (seed_effect: none): another seed is no replication.")
    return found
