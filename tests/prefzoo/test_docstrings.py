"""Docstrings and names that a newcomer can read: arguments and results are described, names say what a thing is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from parsed import parsed

ROOT = Path(__file__).parents[2] / "prefzoo"  # prefzoo/evals is a link to evals
CHECKED = (
    "runtime",
    "losses",
    "catalogue",
    "data",
    "recipe",
    "engine",
    "training",
    "evals/boards",
    "evals/metrics",
    "evals/stats",
    "evals/judges",
    "evals/generation",
    "evals/report",
    "experiment",
)
VAGUE = {"found", "how", "made", "said", "what"}
# A first sentence that begins with one of these describes a thing instead of asking for an action.
NOT_IMPERATIVE = {"The", "A", "An", "What", "Whether", "How", "Where", "Why", "Which", "All", "Every", "One", "Of"}
NAMED = {  # the attribute with the name that a node gives
    ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name", ast.ExceptHandler: "name",
    ast.MatchAs: "name",
}  # fmt: skip
MANY = 3  # parameters from which on each is described
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    return [path for package in CHECKED for path in sorted((ROOT / package).rglob("*.py"))]


def public_functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Public functions and methods, and whether the docstring may be inherited from a base class."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_") and not is_overload(node):
            yield node, False
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield inner, bool(node.bases)


def parameters(function: Function) -> int:
    args = function.args
    named = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    return sum(arg.arg not in ("self", "cls") for arg in named)


def is_overload(function: Function) -> bool:
    """Whether this is one signature of a function that is described where it is defined."""
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in function.decorator_list)


def decorated(function: Function, name: str) -> bool:
    """Whether a function has a decorator of this name that takes arguments."""
    return any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == name for d in function.decorator_list)


def undescribed(source: str) -> list[str]:
    """`line: name lacks Args` for each public function of a module that leaves out what a caller must know."""
    faults = []
    for function, inherits in public_functions(parsed(source)):
        text = ast.get_docstring(function)
        if decorated(function, "check"):  # an instruction: the sentence that asks for it describes it
            continue
        if text is None:
            faults += [] if inherits else [f"{function.lineno}: {function.name} has no docstring"]
        elif decorated(function, "loss") or decorated(
            function, "modifier"
        ):  # its inputs are described once, its knobs by their formula
            faults += [] if "$$" in text else [f"{function.lineno}: {function.name} has no formula"]
        elif parameters(function) >= MANY:
            nothing = isinstance(function.returns, ast.Constant) and function.returns.value is None
            wanted = ("Args:",) if nothing else ("Args:", "Returns:")
            faults += [f"{function.lineno}: {function.name} lacks {part}" for part in wanted if part not in text]
    return faults


def vague_names(source: str) -> list[str]:
    """`line: name` for each variable, argument or function that is named after nothing."""
    bound = set()
    for node in ast.walk(parsed(source)):
        attribute = NAMED.get(type(node))
        if attribute and getattr(node, attribute) in VAGUE and not isinstance(getattr(node, "ctx", None), ast.Load):
            bound.add((node.lineno, getattr(node, attribute)))
    return [f"{line}: {name}" for line, name in sorted(bound)]


def described_as_things(source: str) -> list[str]:
    """`line: name` for each function whose docstring is no imperative sentence; properties are things."""
    faults = []
    for node in ast.walk(parsed(source)):
        text = ast.get_docstring(node) if isinstance(node, Function) else None
        if not isinstance(node, Function) or text is None or node.decorator_list:
            continue
        if text.split()[0] in NOT_IMPERATIVE:
            faults.append(f"{node.lineno}: {node.name}")
    return faults


def test_docstrings_of_functions_are_imperative() -> None:
    faults = [f"{p}:{fault}" for p in modules() for fault in described_as_things(p.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_arguments_and_results_are_described() -> None:
    faults = [f"{path}:{fault}" for path in modules() for fault in undescribed(path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_names_say_what_a_thing_is() -> None:
    everything = [p for p in ROOT.rglob("*.py") if "suites" not in p.parts]  # their content is their version
    everything += [p for p in (ROOT / "evals").rglob("*.py") if "suites" not in p.parts]
    everything += sorted(Path(__file__).parents[1].rglob("*.py"))
    faults = [f"{path}:{fault}" for path in everything for fault in vague_names(path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_the_checks_see_faults() -> None:
    source = '''
def described(a, b, c) -> int:
    """Return a sum.

    Args:
        a, b, c: its terms.

    Returns:
        The sum.
    """

def silent() -> None: ...
def thing(a) -> int:
    """The double of a number."""
def short(a, b, c) -> int:
    """Return a sum."""
    found = a
    for how in (b, c): found += how
    return found

class Base(Other):
    def inherited(self, a, b, c) -> None: ...
    def nothing(self, a, b, *, c) -> None:
        """Do nothing."""
    def _private(self, what, b, c) -> int: ...

@loss(paper="")
def dpo(policy, reference, *, beta):
    """A loss without its formula."""
'''
    assert [fault.partition(": ")[2] for fault in undescribed(source)] == [
        "silent has no docstring", "short lacks Args:", "short lacks Returns:", "nothing lacks Args:",
        "dpo has no formula",
    ]  # fmt: skip
    assert [fault.partition(": ")[2] for fault in described_as_things(source)] == ["thing"]
    assert [fault.partition(": ")[2] for fault in vague_names(source)] == ["found", "found", "how", "what"]


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in parsed(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_test_reads_what_a_user_ran() -> None:
    """`make demo` writes to `runs/`, where numbers differ from processor to processor."""
    readers = [
        f"{path}:{node.lineno}"
        for path in sorted(Path(__file__).parents[1].rglob("test_*.py"))
        for node in ast.walk(parsed(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _names_runs(node.right)
    ]
    assert not readers, "\n".join(readers)
    assert _names_runs(ast.Constant("runs/quickstart")) and not _names_runs(ast.Constant("results"))


def _names_runs(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split("/")[0] == "runs"
