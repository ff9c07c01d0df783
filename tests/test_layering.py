"""Imports point up the list of the design, never in a circle; a name is one module."""

import ast
import collections
import functools
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BASE = ["compilation", "config_flag", "extras", "files", "images"]
BASE += ["interrupts", "new_folder", "progress_bars", "usage"]
LAYERS = [
    *[f"jaxreloc.{name}" for name in ("geometry", "formats")],
    "tfds_builders",
    *[f"jaxreloc.{name}" for name in ("data", "models", "localization", "capture")],
    *[f"jaxreloc.{name}" for name in ("evaluation", "training", "serving", "scale", "cli")],
    "benchmarks",
]
FORBIDDEN_EXTRA = {"jaxreloc.geometry": {"flax"}, "jaxreloc.models": {"jaxreloc.data"}}
MAX_FILES = 9


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_product(path: pathlib.Path) -> bool:
    return not path.name.endswith("_test.py") and path.name != "conftest.py"


MODULES = {
    module_name(path): path
    for folder in ("jaxreloc", "tfds_builders", "benchmarks", "configs")
    for path in (ROOT / folder).rglob("*.py")
    if is_product(path)
}


@functools.cache
def imported_names(path: pathlib.Path) -> frozenset[str]:
    """What is imported anywhere in a file, with the names taken from a module as `module.name`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("layer", LAYERS)
def test_folder_imports_only_folders_above(layer):
    below = set(LAYERS[LAYERS.index(layer) + 1 :])
    forbidden = below | FORBIDDEN_EXTRA.get(layer, set()) | {"run_train", "run_eval"}
    forbidden |= set() if layer == "benchmarks" else {"tests"}
    for name, path in MODULES.items():
        if is_within(name, layer):
            for imported in imported_names(path):
                hits = [x for x in forbidden if is_within(imported, x)]
                assert not hits, f"{path} imports {imported}"


def test_what_all_layers_share_imports_none_of_them():
    assert {name.split(".")[1] for name in MODULES if name.startswith("jaxreloc.")} == {
        *BASE,
        "__main__",
        *[name.removeprefix("jaxreloc.") for name in LAYERS if name.startswith("jaxreloc.")],
    }
    for name, path in MODULES.items():
        if any(is_within(name, f"jaxreloc.{base}") for base in BASE):
            for imported in imported_names(path):
                assert not any(is_within(imported, layer) for layer in LAYERS), (name, imported)


def test_no_circle():
    imports = {
        name: {x for x in imported_names(path) if x in MODULES and x != name}
        for name, path in MODULES.items()
    }
    for name, found in imports.items():  # `from package import module` needs no more of `package`
        packages = {x for x in found if any(is_within(y, x) and y != x for y in found)}
        imports[name] = found - packages
    list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError with the circle


def test_no_two_modules_of_one_name():
    files = [path for path in MODULES.values() if path.name != "__init__.py"]
    paths = collections.defaultdict(list)
    for path in files:
        paths[path.stem].append(path)
    assert {name: found for name, found in paths.items() if len(found) > 1} == {}


def test_a_folder_holds_at_most_nine_files():
    counts = collections.Counter(path.parent for path in MODULES.values())
    assert {str(folder): count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_each_folder_of_the_package_has_its_line():
    told, parents = set(), []
    for line in (ROOT / "docs/source_tree.md").read_text().split("```")[1].strip().splitlines():
        name, purpose = line.strip().split(maxsplit=1)
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], name.rstrip("/")]
        told.add("/".join(parents))
        assert len(purpose) > 10, line
    package = ROOT / "jaxreloc"
    files = (path for path in package.rglob("*") if path.is_file())
    folders = {path.parent for path in files if path.parent.name != "__pycache__"}
    assert told == {path.relative_to(ROOT).as_posix() for path in folders}
