"""The arrows of the design: who may import whom, what stays light, and what no module does."""

from __future__ import annotations

import ast
import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import itlens

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "itlens"
LONGEST = 300
# Bottom to top; a layer imports itself and what is below. Within one entry, parts do not import one another.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files", "lazy", "progress", "provenance", "ranks", "recovery", "unpickling"),
    ("density",),
    ("aggregate", "released"),
    ("store",),
    ("tokenization", "prompts", "vocabulary", "annotate"),
    ("models",),
    ("weights",),
    ("probes", "diff", "views"),
    ("study",),
    ("planted",),
    ("terminal",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# The public names load on first use, so `itlens` itself stands above all that it names; modules name its parts instead.
OUTSIDE = ("__init__", "demo")
HEAVY = ("torch", "transformer_lens", "transformers")
LIGHT = ("errors", "files", "provenance", "density", "aggregate", "released", "store", "tokenization", "prompts")
LIGHT += ("vocabulary", "annotate", "diff", "views", "progress", "terminal", "cli")
LIGHT += tuple(f"study.{name}" for name in ("comparison", "folder", "notes", "outcome", "parts", "ranges"))
LIGHT += ("study.report_content", "study.word_layers", "study.concept_layers")
LIGHT += ("study.concept_results", "study.concept_notes", "probes.layer_join")
FORBIDDEN = {"pickle.dump", "pickle.dumps", "torch.save", "torch.load", "eval", "exec", "os.system"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """itlens/diff/__init__.py -> "diff", itlens/store.py -> "store"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, *, inside: bool) -> Iterator[ast.AST]:
    """Every node that runs; `inside` follows into functions, which run later. Imports for type checkers never run."""
    for child in ast.iter_child_nodes(node):
        if type_checking(child):
            continue
        yield child
        if inside or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from walk(child, inside=inside)


def imported(path: Path, *, inside: bool = True) -> set[str]:
    """The full names a file imports: modules, and for `from a import b` also a.b; lazy names in `_HOME` as well."""
    found: set[str] = set()
    for node in walk(tree(path), inside=inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif inside and isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name == "__init__.py":
            found |= {node.value} if node.value.startswith("itlens.") and " " not in node.value else set()
    return found


def parts_of(names: set[str]) -> set[str]:
    """The parts of this package among imported names: "itlens.diff.conclusion" -> "diff"; bare `itlens` -> ""."""
    own = {name.split(".")[1] if "." in name else "" for name in names if name.split(".")[0] == "itlens"}
    return own & {*LEVEL, *OUTSIDE} | ({""} if "itlens" in names and own == {""} else set())


def test_the_listing_is_of_this_package() -> None:
    there = {name_of(path).split(".")[0] for path in FILES}
    assert there == {*LEVEL, *OUTSIDE}, "a new module needs its place in LAYERS"
    assert len(FILES) > 60


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).split(".")[0] not in OUTSIDE], ids=name_of)
def test_imports_go_downwards_only(path: Path) -> None:
    own = name_of(path).split(".")[0]
    for part in parts_of(imported(path)) - {own}:
        if part == "demo":
            assert own == "cli", f"{name_of(path)} imports the demo"
            continue
        assert part in LEVEL, f"{name_of(path)} imports the top of the package; name the module"
        assert LEVEL[part] < LEVEL[own], f"{name_of(path)} imports {part}, which is beside or above it"


def test_the_check_would_see_a_wrong_arrow(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def late():\n    from itlens.views import tokens\n    import itlens.cli\n    from itlens import store\n"
    )
    assert parts_of(imported(wrong)) == {"views", "cli", "store"}
    assert imported(wrong, inside=False) == set()
    wrong.write_text("if TYPE_CHECKING:\n    from itlens import views\nelse:\n    pass\nimport torch.nn as nn\n")
    tree.cache_clear()
    assert imported(wrong) == {"torch.nn"}


@pytest.mark.parametrize("part", ["probes", "diff", "views"])
def test_probes_diff_and_views_do_not_know_one_another(part: str) -> None:
    others = {"probes", "diff", "views"} - {part}
    for path in (PACKAGE / part).rglob("*.py"):
        assert not parts_of(imported(path)) & others, name_of(path)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_light_modules_name_no_heavy_package(path: Path) -> None:
    name = name_of(path)
    if any(name == light or name.startswith(f"{light}.") for light in LIGHT):
        # A function may need one later (the tokenizer's template engine); diff and views never do.
        inside = name.split(".")[0] in ("diff", "views", "density", "store", "aggregate")
        roots = {module.split(".")[0] for module in imported(path, inside=inside)}
        assert not roots & set(HEAVY)


def test_light_modules_load_no_heavy_package() -> None:
    """By what is in sys.modules, so that nothing heavy comes in through another module either."""
    names = ["itlens"] + [
        f"itlens.{name_of(path)}"
        for path in FILES
        if any(name_of(path) == light or name_of(path).startswith(f"{light}.") for light in LIGHT)
    ]
    code = f"""
import sys
from importlib import import_module
for name in {names!r}:
    import_module(name)
    heavy = [package for package in {HEAVY!r} if package in sys.modules]
    assert not heavy, f"{{name}} loads {{heavy}}"
import itlens
itlens.Prompt, itlens.load_prompts, itlens.span_score, itlens.load, itlens.diff.attributions, itlens.views.report
assert not [package for package in {HEAVY!r} if package in sys.modules]
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_no_module_does(path: Path) -> None:
    name, used = name_of(path), calls(path)
    if name.split(".")[0] not in ("cli", "terminal", "demo"):
        assert "print" not in used, "only the command line prints"
    assert not used & FORBIDDEN
    if name != "unpickling":
        assert not {module for module in imported(path) if module.split(".")[0] in ("pickle", "dill", "joblib")}
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    for handler in handlers:
        caught = ast.unparse(handler.type) if handler.type is not None else "everything"
        again = any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
        assert caught not in ("Exception", "everything") and (caught != "BaseException" or again), caught
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST, "split it: a file knows one thing"
    assert not [word for word in ("TODO", "FIXME", "XXX") if word in text]
    assert ast.get_docstring(tree(path)) or not text.strip(), "a module says what it is"


# The demo's scripts are run, not called.
@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "demo"], ids=name_of)
def test_public_functions_and_classes_say_what_they_do(path: Path) -> None:
    """And are annotated: every argument, and what comes back."""
    bare: list[str] = []
    public = [node for node in tree(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    methods = [
        f for node in public if isinstance(node, ast.ClassDef) for f in node.body if isinstance(f, ast.FunctionDef)
    ]
    for node in (*public, *methods):
        if node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and node not in methods:
            bare.append(f"{node.name}: no docstring")
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            bare += [f"{node.name}: {missing} without a type"] if missing or node.returns is None else []
    assert not bare


def test_every_public_name_resolves() -> None:
    assert len(set(itlens.__all__)) == len(itlens.__all__)
    for name in itlens.__all__:
        value = getattr(itlens, name)
        assert value is not None and name in dir(itlens)
        if callable(value):
            assert inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        itlens.nothing  # noqa: B018
    for lazy in ("itlens.annotate", "itlens.diff", "itlens.study", "itlens.views", "itlens.models", "itlens.prompts"):
        module = import_module(lazy)
        assert all(getattr(module, name) is not None for name in module.__all__), lazy


def test_no_submodule_shadows_a_public_name() -> None:
    """`itlens.attribute` must stay the function, whatever is imported before."""
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert modules & set(itlens.__all__) == {"annotate", "demo", "diff", "errors", "views"}
    for part in ("annotate", "diff", "study", "views", "models", "prompts"):
        inside = {module.name for module in pkgutil.iter_modules([str(PACKAGE / part)])}
        assert not inside & set(import_module(f"itlens.{part}").__all__), part
