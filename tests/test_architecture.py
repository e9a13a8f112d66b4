"""The rules of the house: who imports whom, what stays light, what no module does, where a finding may be named."""

from __future__ import annotations

import ast
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import itlens

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "itlens"
FEWEST, MOST = 60, 400  # lines of a file
# Bottom to top; a floor imports itself and what is below. Within one entry, floors do not import one another.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files", "lazy", "progress", "selection"),
    ("foreign",),
    ("results",),
    ("stats",),
    ("report",),
    ("tokenization", "prompts", "vocabulary", "annotate"),
    ("models",),
    ("weights",),
    ("shapes",),
    ("hooked",),
    ("findings",),
    ("planted", "study", "bench"),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# The facades: their names load on first use, from every floor below.
OUTSIDE = ("__init__", "__main__", "demo", "diff", "views")
HEAVY = ("torch", "transformer_lens", "transformers")
LIGHT = (
    "errors",
    "files",
    "foreign",
    "lazy",
    "progress",
    "selection",
    "results",
    "stats",
    "report",
    "tokenization",
    "prompts",
    "vocabulary",
)
LIGHT += ("annotate", "cli", "diff", "views")
LIGHT += tuple(f"study.{name}" for name in ("comparison", "folder", "outcome", "record", "request", "series"))
LIGHT += tuple(f"study.{name}" for name in ("templates", "several", "several_outcome", "numbers", "view"))
FINDINGS = sorted(path.name for path in (PACKAGE / "findings").iterdir() if (path / "finding.py").exists())
# The commands on one model are each about one probe, and name it by its module.
PROBE_COMMANDS = ("cli.attribute", "cli.attend", "cli.words", "cli.concepts")
# Where another package's code is run, and whatever it raises becomes one sentence (or is raised in the waiting thread).
GUARDS = ("annotate.chat_client", "findings", "study.failure")
# Short, and a thought of their own all the same.
SLIVERS = ("__main__", "cli.__main__", "cli.attend", "cli.examples", "cli.inspect", "errors", "lazy")
SLIVERS += ("prompts.control_tokens", "report.text", "results.provenance")
FORBIDDEN = {"pickle.dump", "pickle.dumps", "torch.save", "torch.load", "eval", "exec", "os.system"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """itlens/findings/__init__.py -> "findings", itlens/results/store.py -> "results.store"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def over(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """One test of all files (thousands of tests would take longer than what they look at); it names every file."""
    listed = list(paths)

    def decorate(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for path in listed:
                try:
                    check(path)
                except AssertionError as error:
                    wrong.append(f"{name_of(path)}: {error}")
            assert not wrong, "\n".join(wrong)

        test.__doc__ = check.__doc__
        return test

    return decorate


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


@cache
def imported(path: Path, *, inside: bool = True) -> frozenset[str]:
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
    return frozenset(found)


def parts_of(names: frozenset[str]) -> set[str]:
    """The floors of this package among imported names: "itlens.study.pair" -> "study"; bare `itlens` -> ""."""
    own = {name.split(".")[1] if "." in name else "" for name in names if name.split(".")[0] == "itlens"}
    return own & {*LEVEL, *OUTSIDE} | ({""} if "itlens" in names and own == {""} else set())


def test_the_listing_is_of_this_package() -> None:
    there = {name_of(path).split(".")[0] for path in FILES}
    assert there == {*LEVEL, *OUTSIDE} - ({"data"} - there), "a new floor needs its place in LAYERS"
    assert len(FINDINGS) >= 6


@over(path for path in FILES if name_of(path).split(".")[0] not in OUTSIDE)
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
        "def late():\n    from itlens.views import tokens\n    import itlens.cli\n    from itlens import files\n"
    )
    assert parts_of(imported(wrong)) == {"views", "cli", "files"}
    assert imported(wrong, inside=False) == set()
    wrong.write_text("if TYPE_CHECKING:\n    from itlens import views\nelse:\n    pass\nimport torch.nn as nn\n")
    tree.cache_clear()
    imported.cache_clear()
    assert imported(wrong) == {"torch.nn"}


def own_imports(path: Path) -> set[str]:
    return {name for name in imported(path) if name.startswith("itlens.")}


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings_do_not_know_one_another(finding: str) -> None:
    for path in (PACKAGE / "findings" / finding).glob("*.py"):
        others = {name.split(".")[2] for name in own_imports(path) if name.startswith("itlens.findings.")} & {*FINDINGS}
        assert others <= {finding}, f"{name_of(path)} imports {others - {finding}}"


@pytest.mark.parametrize("finding", FINDINGS)
def test_views_and_diffs_of_a_finding_stay_apart(finding: str) -> None:
    """A view imports neither probe nor diff; a diff no view; only probes, detectors and benchmarks import torch."""
    for path in (PACKAGE / "findings" / finding).glob("*.py"):
        kind = path.stem.split("_")[0]
        theirs = {name.split(".")[3].split("_")[0] for name in own_imports(path) if name.count(".") >= 3}
        if kind in ("view", "columns"):
            assert not theirs & {"probe", "diff"}, name_of(path)
        if kind == "diff":
            assert not theirs & {"probe", "view"}, name_of(path)
        if kind not in ("probe", "detectors", "benchmarks"):
            heavy = {module.split(".")[0] for module in imported(path, inside=kind != "finding")} & set(HEAVY)
            assert not heavy, f"{name_of(path)} imports {heavy}"


@over(FILES)
def test_no_file_outside_findings_names_a_finding(path: Path) -> None:
    name = name_of(path)
    if name.split(".")[0] in ("findings", "demo", "data", "views", "diff", "__init__"):
        return
    text = path.read_text(encoding="utf-8")
    if name.split(".")[0] in ("study", "report", "cli"):
        named = (
            []
            if name in PROBE_COMMANDS
            else [finding for finding in FINDINGS if re.search(rf"[\"']{finding}[\"']|\b{finding}_", text)]
        )
        assert not named, f"{name} names {named}"
    if name not in PROBE_COMMANDS:
        modules = [module for module in own_imports(path) if module.startswith("itlens.findings.")]
        assert not [module for module in modules if module.split(".")[2] in FINDINGS], name


@over(FILES)
def test_html_is_written_in_report_only(path: Path) -> None:
    if name_of(path).split(".")[0] != "report":
        tags = re.findall(r"[\"'f]</?(?:p|div|td|tr|table|span|h[1-6])\b", path.read_text(encoding="utf-8"))
        assert not tags, f"{name_of(path)} writes {tags[:3]}"


def test_no_public_name_is_defined_twice() -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for node in tree(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                where[node.name].add(name_of(path))
    # a command has the name of the function it calls
    assert {
        name: places for name, places in where.items() if len({p for p in places if not p.startswith("cli")}) > 1
    } == {}


@over(FILES)
def test_nothing_decides_by_how_a_text_begins_or_ends(path: Path) -> None:
    """No control flow on prose: whether something was tested is data, not a word in a note or a verdict."""
    asked = {
        ast.unparse(node)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("startswith", "endswith")
        and re.search(r"note|verdict|sentence|answer", ast.unparse(node.func.value))
    }
    assert not asked, f"{name_of(path)}: {asked}"


@over(FILES)
def test_light_modules_name_no_heavy_package(path: Path) -> None:
    name = name_of(path)
    if any(name == light or name.startswith(f"{light}.") for light in LIGHT):
        inside = name.split(".")[0] in ("results", "stats", "report")
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
import itlens.results.store, itlens.results.aggregate, itlens.findings.attribution.diff
assert "statsmodels" not in sys.modules
for name in {names!r}:
    import_module(name)
    heavy = [package for package in {HEAVY!r} if package in sys.modules]
    assert not heavy, f"{{name}} loads {{heavy}}"
import itlens
itlens.Prompt, itlens.load_prompts, itlens.span_score, itlens.load, itlens.diff.attributions, itlens.views.report
itlens.findings()
from itlens.report import page
page.circuitsvis()
assert not [package for package in {(*HEAVY, "circuitsvis")!r} if package in sys.modules]
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


@over(FILES)
def test_what_no_module_does(path: Path) -> None:
    name, used = name_of(path), calls(path)
    if name.split(".")[0] not in ("cli", "demo"):
        assert "print" not in used, "only the command line prints"
    assert not used & FORBIDDEN
    if name != "results.released":
        assert not {module for module in imported(path) if module.split(".")[0] in ("pickle", "dill", "joblib")}
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    for handler in handlers:
        caught = ast.unparse(handler.type) if handler.type is not None else "everything"
        again = any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
        assert caught != "everything"
        assert caught != "Exception" or name in GUARDS, name
        assert caught != "BaseException" or again, name
    text = path.read_text(encoding="utf-8")
    if path.name != "__init__.py" and name.split(".")[0] != "demo":
        lines = len(text.splitlines())
        assert lines <= MOST, "split it: a file knows one thing"
        assert lines >= FEWEST or name in SLIVERS or path.name in ("detectors.py", "benchmarks.py"), (
            "join it with what must be read together"
        )
    assert not [word for word in ("TODO", "FIXME", "XXX") if word in text]
    assert ast.get_docstring(tree(path)) or not text.strip(), "a module says what it is"


@over(FILES)
def test_float64_is_made_where_there_is_one(path: Path) -> None:
    """Apple's GPUs have none: `itlens.models.precision` moves values to the CPU first."""
    if name_of(path) == "models.precision":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_cpu = isinstance(node.func.value, ast.Call) and ast.unparse(node.func.value).endswith(".cpu()")
            assert node.func.attr != "double" or of_cpu, f"{name_of(path)}:{node.lineno}: use exact() or as_numbers()"


# The demo's scripts are run, not called.
@over(path for path in FILES if path.parent.name != "demo")
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
    assert modules & set(itlens.__all__) == {"annotate", "demo", "diff", "errors", "findings", "views"}
    for part in ("annotate", "study", "models", "prompts"):
        inside = {module.name for module in pkgutil.iter_modules([str(PACKAGE / part)])}
        assert not inside & set(import_module(f"itlens.{part}").__all__), part
