"""Documents point at what exists, and nothing in the project points at one machine."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.architecture import tables

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "TOUR.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/security.md",
    "docs/cluster.md",
]

LINK = re.compile(r"\[[^\]]*\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
SYMBOL = re.compile(r"(?P<path>[\w./-]+\.py)::(?P<symbol>\w+(?:(?:\.|::)\w+)*)")
TASK = re.compile(r"\./taskw (?P<task>[a-z][a-z-]*)")
HEADING = re.compile(r"^#+ +(?P<title>.+?)\s*$", re.MULTILINE)
RELEASE = re.compile(r"^## \[(?P<version>[^\]]+)\]", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
EXCERPT = re.compile(
    r"^```python\n# (?P<path>\S+\.py)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)

# Which index packages come from is decided by whoever installs, never by a file in here. The
# brackets keep each pattern from finding itself.
FORBIDDEN = {
    "address of a package index": re.compile(
        r"https?://[^\s/]*(?:py[p]i|pyt[h]onhosted|regi[s]try|npm[j]s|pro[x]y\.golang)"
    ),
    "folder of one machine": re.compile(r"(?<![\w.$}/])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/"),
}


def text_of(document: str) -> str:
    """Return one document, empty while it is missing; another test says that it is."""
    path = ROOT / document
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def links() -> Iterator[tuple[str, str, str]]:
    """Yield document, path and anchor of each relative link outside code blocks."""
    for document in DOCUMENTS:
        for match in LINK.finditer(FENCE.sub("", text_of(document))):
            yield document, match["path"], match["anchor"] or ""


def symbols() -> Iterator[tuple[str, str, str]]:
    """Yield document, path and name of each `path::symbol`."""
    for document in DOCUMENTS:
        for match in SYMBOL.finditer(text_of(document)):
            yield document, match["path"], match["symbol"]


def excerpts() -> Iterator[tuple[str, str, str]]:
    """Yield document, path and text of each piece of our code that a document shows."""
    for document in DOCUMENTS:
        for match in EXCERPT.finditer(text_of(document)):
            yield document, match["path"], match["code"]


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that a Markdown viewer makes from the headings of a file."""
    titles = HEADING.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def names_in(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield each function, class, method and assigned name of a module, dotted."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield prefix + name
                yield from names_in(node, f"{prefix}{name}.")
            case ast.AsyncFunctionDef(name=name):
                yield prefix + name
                yield from names_in(node, f"{prefix}{name}.")
            case ast.Assign(targets=targets):
                yield from (prefix + item.id for item in targets if isinstance(item, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case _:
                pass


def project_files() -> list[Path]:
    """Return what is, or is about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def lines_that_match(pattern: re.Pattern[str], path: Path) -> Iterator[str]:
    """Yield the offending lines of a text file, ready to be shown."""
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):  # binary, or removed and not yet committed
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.search(line):
            yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "LICENSE"])
def test_document_is_there(document: str) -> None:
    """Nobody arrives at a project without its first page."""
    assert text_of(document).strip()


@pytest.mark.parametrize(("document", "path", "anchor"), sorted(set(links())))
def test_relative_link_leads_somewhere(document: str, path: str, anchor: str) -> None:
    """A link names a file or folder of the project and, if it says so, one of its headings."""
    target = (ROOT / document).parent / path if path else ROOT / document

    assert target.exists()
    assert not anchor or target.suffix != ".md" or anchor in anchors_of(target)


@pytest.mark.parametrize(("document", "path", "symbol"), sorted(set(symbols())))
def test_symbol_exists(document: str, path: str, symbol: str) -> None:
    """A stop of the tour names code that is still there."""
    source = ROOT / path

    assert source.is_file(), f"{document} names {path}"
    assert symbol.replace("::", ".") in set(names_in(ast.parse(source.read_text("utf-8"))))


@pytest.mark.parametrize(("document", "path", "code"), sorted(set(excerpts())))
def test_excerpt_is_the_code(document: str, path: str, code: str) -> None:
    """A handler that a document shows is the handler that runs."""
    source = (ROOT / path).read_text(encoding="utf-8")

    assert code in source, f"{document} shows another {path}"


def test_readme_tables_follow_from_the_code() -> None:
    """Functions and settings of the README are those that there are."""
    text = text_of("README.md")

    assert tables.rendered(text) == text, "run: python -m tests.architecture.tables"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_tasks(document: str) -> None:
    """Who types what a document says meets a task."""
    tasks = yaml.safe_load(text_of("Taskfile.yml"))["tasks"]

    named = set(TASK.findall(text_of(document)))

    assert named <= set(tasks)


def test_newest_heading_of_the_changelog_is_the_version() -> None:
    """A release without its paragraph, or a paragraph without its release, is noticed here."""
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]

    headings = RELEASE.findall(text_of("CHANGELOG.md"))

    assert headings[:1] == [version]


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN)
def test_files_belong_to_no_machine(pattern: re.Pattern[str]) -> None:
    """A clone works anywhere: no file holds an address or a path that only its author has."""
    found = [line for path in project_files() for line in lines_that_match(pattern, path)]

    assert not found
