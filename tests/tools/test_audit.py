"""What is said of advisories: never that there are none where nobody could be asked."""

import json

from tools.audit import judged

BAD = {"name": "torch", "version": "2.0.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1.0"]}]}
GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "pandas", "skip_reason": "Dependency not found on PyPI"}
OWN = {"name": "tiny-ablation", "skip_reason": "editable"}


def out(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


def test_an_advisory_fails():
    lines, code = judged(out(BAD, GOOD, OWN), "", {})
    assert code == 1
    assert lines == ["torch 2.0.0: PYSEC-1, mended in 2.1.0", "2 packages audited, 1 open advisories"]


def test_an_excused_one_does_not_by_any_of_its_ids_and_its_reason_is_told():
    for id_ in ("PYSEC-1", "CVE-1"):
        lines, code = judged(out(BAD, GOOD), "", {id_: "not reached"})
        assert code == 0
        assert f"excused: {id_}: not reached" in lines


def test_an_excuse_that_is_no_longer_needed_is_told():
    lines, code = judged(out(GOOD), "", {"PYSEC-9": "why"})
    assert (code, lines[0]) == (0, "no longer needed in [tool.audit.excused]: PYSEC-9")


def test_without_a_network_nothing_is_claimed():
    lines, code = judged("", "ERROR:pip_audit: ...\nConnectionError: nobody answers\n", {})
    assert (code, lines) == (0, ["not audited: no advisories can be had (ConnectionError: nobody answers)"])
    lines, code = judged(out(UNKNOWN, OWN), "", {})
    assert code == 0
    assert lines[0].startswith("not audited: the index has no advisories for any of 1 packages")


def test_what_could_not_be_asked_is_listed():
    lines, code = judged(out(GOOD, UNKNOWN), "", {})
    assert (code, lines) == (0, ["not audited: pandas", "1 packages audited, 0 open advisories"])
