"""Slices stay slices: nothing outside `ablations/` knows one ablation by its name, or reaches behind the face of a slice."""

import ast
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import tiny_ablation
from tiny_ablation import ablations
from tiny_ablation.ablations.registry import all_ablations

PACKAGE = Path(tiny_ablation.__file__).parent
# Not slices: they look them up, and hold what several share.
COMMON = ("registry", "shared")
# Who may name an ablation or look into a slice all the same, and why.
EXCUSED = {
    "api.py": "the default of `ablate`, as `conf/config.yaml` has it for the command",
    "sweep/confirm.py": "the conserved heads are confirmed by a run of their own, whose command line names what it does",
    "commands/_selfcheck": "checks promises about certain ablations on models and data whose answer is known",
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("ablations/") and not any(name.startswith(each) for each in EXCUSED):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every string but docstrings, which may name an example."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_ablation_is_known_by_name_outside_of_its_slice():
    names = [name for name in all_ablations() if "_" in name]  # `circuit` and `attribution` are words as well
    named = re.compile(rf"(?<!\w)({'|'.join(names)})(?!\w)|ablation(\.kind)?=({'|'.join(all_ablations())})(?!\w)")
    compared = re.compile(rf"\bkind\b.*(==|!=|\bin\b).*['\"]({'|'.join(all_ablations())})['\"]")
    found = [f"{file}:{each.lineno}" for file, tree in _modules() for each in _texts(tree) if named.search(each.value)]
    found += [
        f"{file}:{node.lineno}"
        for file, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and compared.search(ast.unparse(node))
    ]
    assert found == []


def test_a_slice_is_imported_through_its_face_alone():
    common = tuple(f"{ablations.__name__}.{name}" for name in COMMON)
    behind = [
        f"{file}: {module}"
        for file, tree in _modules()
        for module in _imported(tree)
        if module.startswith(f"{ablations.__name__}.") and module.count(".") > 2 and not module.startswith(common)
    ]
    assert behind == []


def test_no_slice_reaches_behind_the_face_of_another():
    behind = []
    for path in sorted((PACKAGE / "ablations").rglob("*.py")):
        mine = path.relative_to(PACKAGE / "ablations").parts[0].removesuffix(".py")
        for module in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            of = module.removeprefix(f"{ablations.__name__}.").split(".")
            if module.startswith(f"{ablations.__name__}.") and of[0] not in (mine, *COMMON) and len(of) > 1:
                behind.append(f"{path.name}: {module}")
    assert behind == []


def test_the_face_of_a_slice_lists_its_ablations():
    slices = [module.name for module in pkgutil.iter_modules(ablations.__path__) if module.name not in COMMON]
    listed = [each for name in slices for each in import_module(f"{ablations.__name__}.{name}").ABLATIONS]
    assert sorted(each.name for each in listed) == sorted(all_ablations())
