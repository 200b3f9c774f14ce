"""What ``mkdocs build`` does beyond its plugins: generated pages, links to source files, and a check of docstrings."""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from error_index import error_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "muybridge"
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fails if a public module, class, function or method has no docstring."""
    missing = [name for path in sorted(PACKAGE.rglob("*.py")) for name in undocumented(path)]
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are generated from the source."""
    files.append(File.generated(config, "errors.md", content=error_page(PACKAGE)))
    for page, modules in api_modules().items():
        files.append(File.generated(config, f"api/{page}.md", content=api_page(page, modules)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replaces links to files outside of ``docs``: to modules by links into the API reference, others by plain text."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        text, target = match[1], posixpath.normpath(folder / match[2])
        if target.startswith("docs/"):
            return match[0]
        if not (ROOT / target).exists():
            raise PluginError(f"{page.file.src_uri}: the link to {match[2]} is broken")
        if not target.startswith("src/"):
            return text
        module = target.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return f"[{text}][{module}]"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#|/)([^)#\s]+)\)", replace, markdown)


def undocumented(path: Path) -> list[str]:
    """The public definitions of a file that have no docstring."""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    if any(part.startswith("_") for part in module.split(".")):
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [name for name, node in _definitions(tree, module) if ast.get_docstring(node) is None]


def _definitions(node: Definition, name: str) -> Iterator[tuple[str, Definition]]:
    yield name, node
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, Definition) and not child.name.startswith("_") and not _is_overload(child):
                yield from _definitions(child, f"{name}.{child.name}")


def _is_overload(node: Definition) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(ast.unparse(decorator) in ("overload", "typing.overload") for decorator in decorators)


def api_modules() -> dict[str, list[str]]:
    """The public modules by page: one page for each package, and for each module that belongs to none.

    A module such as ``recipe_schema`` belongs to the package ``recipe``.
    """
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    pages: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if any(part.startswith("_") and part != "__init__" for part in parts) or parts == ("__init__",):
            continue
        prefix = parts[0].split("_")[0]
        module = ".".join(("muybridge", *parts)).removesuffix(".__init__")
        pages.setdefault(prefix if prefix in packages else parts[0], []).append(module)
    return {page: sorted(modules) for page, modules in pages.items()}


def api_page(page: str, modules: list[str]) -> str:
    """A page of the API reference, rendered by mkdocstrings; the first module is the page's title.

    A package lists what its ``__init__`` defines; what it imports from its modules is listed there.
    """
    parts = [f"---\ntitle: muybridge.{page}\n---"]
    for level, module in zip([1, *[2] * (len(modules) - 1)], modules, strict=True):
        file = PACKAGE.parent.joinpath(*module.split("."), "__init__.py")
        members = f"\n      members: {public_names(file) or 'false'}" if file.is_file() else ""
        parts.append(f"::: {module}\n    options:\n      heading_level: {level}{members}")
    return "\n\n".join(parts) + "\n"


def public_names(path: Path) -> list[str]:
    """The public names that a module defines, rather than imports."""
    names: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]
