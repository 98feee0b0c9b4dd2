"""The bill of materials holds what an installation needs, all of it and nothing else."""

import pytest

from tools.sbom import needed

BILL = {
    "bomFormat": "CycloneDX",
    "components": [{"name": name, "bom-ref": f"{name}-ref"} for name in ("torch", "Jinja2", "MarkupSafe", "pytest", "pluggy")],
    "dependencies": [
        {"ref": "torch-ref", "dependsOn": ["Jinja2-ref"]},
        {"ref": "Jinja2-ref", "dependsOn": ["MarkupSafe-ref"]},
        {"ref": "MarkupSafe-ref", "dependsOn": ["Jinja2-ref"]},
        {"ref": "pytest-ref", "dependsOn": ["pluggy-ref"]},
    ],
}


def test_what_dependencies_need_is_kept_and_tools_are_not():
    found = needed(BILL, ["torch"])
    assert [each["name"] for each in found["components"]] == ["torch", "Jinja2", "MarkupSafe"]
    assert [each["ref"] for each in found["dependencies"]] == ["torch-ref", "Jinja2-ref", "MarkupSafe-ref"]
    assert found["bomFormat"] == "CycloneDX"


def test_names_are_the_same_however_they_are_written():
    assert len(needed(BILL, ["jinja2", "markupsafe"])["components"]) == 2


def test_a_dependency_that_is_not_installed_is_no_small_matter():
    with pytest.raises(SystemExit, match=r"not installed.*gguf"):
        needed(BILL, ["torch", "gguf"])
