"""The page of every error message, generated from the source without importing it.

Each call of a subclass of ``MuybridgeError`` is one entry: what is wrong, what was expected, what to do, and where it
is raised. A call of a helper that takes the ``expected`` and ``hint`` of the errors it raises is an entry as well.
Values that are only known at run time are shown as ‹name›.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Constants = dict[str, ast.expr]

TITLES = {
    "DataError": "Data",
    "RecipeError": "Recipes and settings",
    "RunError": "Runs",
    "MissingExtraError": "Optional packages",
    "ValueError": "Invalid values of settings",
}
"""The classes of errors, and the sections of the page."""

INTRODUCTION = """# Error messages

Every error that you can fix says what is wrong, what was expected and what to do. The command line prints it after the
name of the file concerned, without a traceback, and exits with status 2. This page lists all of them. Use the search,
or that of your browser; values of your case appear in place of ‹names in angle brackets›.
"""


@dataclass(frozen=True)
class Entry:
    """One error message.

    Attributes:
        kind: a key of :data:`TITLES`.
        module: where it is raised.
        problem, expected, hint: templates of the three parts; the last two are empty for a ``ValueError``.
    """

    kind: str
    module: str
    problem: str
    expected: str = ""
    hint: str = ""

    @property
    def is_helper(self) -> bool:
        """Whether it is raised by a helper that gets the other parts from its callers."""
        return (self.expected, self.hint) == ("‹expected›", "‹hint›")


@dataclass(frozen=True)
class Scope:
    """The function around a call, and what is assigned to names there.

    Attributes:
        constants: of all modules of the package.
        function: name of the innermost function.
        assignments: of the functions around the call.
        parameters: of the innermost function.
    """

    constants: Constants
    function: str = ""
    assignments: Constants = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()

    def lookup(self, name: str) -> ast.expr | None:
        """The text assigned to a name, if there is exactly one assignment."""
        return None if name in self.parameters else self.assignments.get(name, self.constants.get(name))


def error_entries(package: Path) -> list[Entry]:
    """All error messages of the package, by module and line."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    constants: Constants = {}
    for tree in trees.values():
        constants |= _assignments(tree.body)
    kinds = _error_classes(trees.values())
    calls: list[tuple[str, ast.Call, Scope]] = []
    for path, tree in trees.items():
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        calls += [(module, call, scope) for call, scope in _calls(tree, Scope(constants))]
    helpers = _helpers(calls, kinds)
    found: list[Entry] = []
    for module, call, scope in calls:
        entry = _entry(module, call, scope, kinds)
        if entry is not None and not entry.is_helper:
            found.append(entry)
        parts = _parts(call, scope)
        if _name(call) in helpers and parts is not None and parts != ("‹expected›", "‹hint›"):
            found += [
                replace(raised, module=module, expected=parts[0], hint=parts[1]) for raised in helpers[_name(call)]
            ]
    return list(dict.fromkeys(found))


def error_page(package: Path) -> str:
    """The page in Markdown."""
    parts, found = [INTRODUCTION], error_entries(package)
    for kind, title in TITLES.items():
        parts.append(f"## {title}\n")
        of_kind = [entry for entry in found if entry.kind == kind]
        for module in sorted({entry.module for entry in of_kind}):
            parts.append(f"### `{module}`\n")
            parts += [_markdown(entry) for entry in of_kind if entry.module == module]
    return "\n".join(parts)


def _markdown(entry: Entry) -> str:
    lines = [f"**{_escape(entry.problem)}**\n"]
    if entry.expected:
        lines += [f":   Expected: {_escape(entry.expected)}.  ", f"    What to do: {_escape(entry.hint)}.\n"]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """The text with the characters escaped that Markdown or HTML would interpret; code between backticks stays."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a single backtick
        parts = [text]
    return "`".join(part if index % 2 else _escape_plain(part) for index, part in enumerate(parts))


def _escape_plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in "\\`*_{}[]#|" else character for character in text)


def _error_classes(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Each error class of the package, with the key of :data:`TITLES` under which it is listed."""
    bases: dict[str, str] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if isinstance(base, ast.Name):
                        bases[node.name] = base.id
    kinds: dict[str, str] = {}
    for name in bases:
        ancestor = name
        while ancestor in bases and ancestor not in TITLES:
            ancestor = bases[ancestor]
        if ancestor in TITLES and ancestor != "ValueError":
            kinds[name] = ancestor
    return kinds


def _calls(node: ast.AST, scope: Scope, raised: bool = False) -> Iterator[tuple[ast.Call, Scope]]:
    """Every call below a node with its scope, in the order of the source; of ``ValueError`` only where it is raised."""
    if isinstance(node, Function):
        arguments = node.args
        names = frozenset(argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
        statements = [child for child in ast.walk(node) if isinstance(child, ast.stmt)]
        scope = Scope(scope.constants, node.name, scope.assignments | _assignments(statements), names)
    if isinstance(node, ast.Call) and (raised or _name(node) != "ValueError"):
        yield node, scope
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, scope, raised=isinstance(node, ast.Raise))


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _parts(call: ast.Call, scope: Scope) -> tuple[str, str] | None:
    """The templates of the ``expected`` and ``hint`` of a call, if it has both."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if not {"expected", "hint"} <= set(keywords):
        return None
    return _template(keywords["expected"], scope), _template(keywords["hint"], scope)


def _helpers(calls: Iterable[tuple[str, ast.Call, Scope]], kinds: dict[str, str]) -> dict[str, list[Entry]]:
    """Functions that pass their parameters ``expected`` and ``hint`` to errors, and the errors they raise."""
    helpers: dict[str, list[Entry]] = {}
    passed_on: list[tuple[str, str]] = []
    for module, call, scope in calls:
        if _parts(call, scope) != ("‹expected›", "‹hint›") or not {"expected", "hint"} <= scope.parameters:
            continue
        if entry := _entry(module, call, scope, kinds):
            helpers.setdefault(scope.function, []).append(entry)
        else:
            passed_on.append((scope.function, _name(call)))
    for _ in passed_on:  # as often as helpers may be nested
        for outer, inner in passed_on:
            helpers.setdefault(outer, helpers.get(inner, []))
    return helpers


def _entry(module: str, call: ast.Call, scope: Scope, kinds: dict[str, str]) -> Entry | None:
    """The message of a call of an error class; None for other calls, and for copies of another error."""
    if _name(call) == "ValueError" and call.args and _is_text(call.args[0]):
        return Entry("ValueError", module, _template(call.args[0], scope))
    parts = _parts(call, scope)
    if _name(call) not in kinds or parts is None or not call.args:
        return None
    if any(isinstance(keyword.value, ast.Attribute) and keyword.value.attr == "hint" for keyword in call.keywords):
        return None
    return Entry(kinds[_name(call)], module, _template(call.args[0], scope), *parts)


def _assignments(statements: Iterable[ast.stmt]) -> Constants:
    """The texts of names that are assigned exactly once."""
    values: dict[str, list[ast.expr]] = {}
    for statement in statements:
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(statement, ast.Assign):
            pairs = [(target, statement.value) for target in statement.targets]
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign) and statement.value is not None:
            pairs = [(statement.target, statement.value)]
        for target, value in pairs:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs += zip(target.elts, value.elts, strict=False)
            elif isinstance(target, ast.Name):
                values.setdefault(target.id, []).append(value)
    return {name: texts[0] for name, texts in values.items() if len(texts) == 1 and _is_text(texts[0])}


def _is_text(value: ast.expr) -> bool:
    match value:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _is_text(left) or _is_text(right)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_text(body) or _is_text(orelse)
        case _:
            return False


def _template(value: ast.expr, scope: Scope, depth: int = 0) -> str:
    """The text of an expression, run-time values as ‹name›, alternatives joined by " / "."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_template(part, scope, depth) for part in values)
        case ast.FormattedValue(value=inner):
            return _template(inner, scope, depth) if _is_text(inner) or isinstance(inner, ast.Name) else _label(inner)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _template(left, scope, depth) + _template(right, scope, depth)
        case ast.IfExp(body=body, orelse=orelse):
            alternatives = [_template(branch, scope, depth) for branch in (body, orelse)]
            return " / ".join(text for text in alternatives if text)
        case ast.Name(id=name) if depth < 4 and (assigned := scope.lookup(name)) is not None:
            return _template(assigned, scope, depth + 1)
        case _:
            return _label(value)


def _label(value: ast.expr) -> str:
    """A short name of a run-time value, from the identifiers of its expression."""
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return f"‹{name.replace('_', ' ').strip()}›"
        case ast.Subscript(value=inner):
            return _label(inner)
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return f"‹number of {_label(inner)[1:-1]}›"
        case ast.Call(args=[inner, *_]) | ast.Call(func=ast.Attribute(value=inner)):
            return _label(inner)
        case ast.GeneratorExp(generators=[generator, *_]) | ast.ListComp(generators=[generator, *_]):
            return _label(generator.iter)
        case _:
            names = [node.id for node in ast.walk(value) if isinstance(node, ast.Name)]
            return f"‹{names[0].replace('_', ' ').strip() if names else 'value'}›"
