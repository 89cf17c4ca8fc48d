"""The tables of README.md that follow from the code.

`python -m tests.architecture.tables` writes them; a test fails while one of them is behind.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import SecretStr

from shared.runtime import scaling
from shared.runtime.functions import SLUGS, load
from shared.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
_DEFAULTS = {"data_dir": "`~/.local/share/integr8s`"}
"""What a default means that is only known on the machine itself."""
_WOKEN_BY = {"clock": "what is due", "cluster": "the cluster's watch"}


def functions() -> str:
    """Return every function: its sentence, what it reads, what it says, how many there may be."""
    scaled = scaling.load(ROOT / "keda")
    rows = []
    for slug in SLUGS:
        spec = load(slug).spec
        reads = _WOKEN_BY.get(spec.wakes) or ", ".join(f"`{topic}`" for topic in spec.topics)
        replicas = f"{scaled[slug].min_replicas} to {scaled[slug].max_replicas}"
        says = _by_family(payload.TYPE for payload in spec.emits) or "-"
        rows.append((f"`{slug}`", _sentence(slug), reads, says, replicas))
    return _table(("function", "in one sentence", "reads", "says", "replicas"), rows)


def settings() -> str:
    """Return every setting of the process: its variable, its default, what it means."""
    prefix = Settings.model_config["env_prefix"]
    rows = []
    for name, field in Settings.model_fields.items():
        default = _DEFAULTS.get(name) or _shown(field.default)
        rows.append((f"`{prefix}{name.upper()}`", default, _one_line(field.description or "")))
    return _table(("variable", "default", "meaning"), rows)


TABLES = {"functions": functions, "settings": settings}


def rendered(text: str) -> str:
    """Return a document with every table in it as the code has it now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end of table -->"
        before, mark, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not (mark and closing):
            raise ValueError(f"the marks of the table {name} are missing")
        text = before + begin + table() + end + after
    return text


def _sentence(slug: str) -> str:
    folder = ROOT / "functions" / slug.replace("-", "_")
    source = (folder / "__init__.py").read_text(encoding="utf-8")
    return _one_line(source.strip().strip('"'))


def _by_family(types: Iterable[str]) -> str:
    """Return `family: step, step` for names that share one, so that a row stays readable."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in types:
        family, dot, step = name.partition(".")
        families[family if dot else ""].append(step or name)
    return "; ".join(
        f"{family}: {', '.join(steps)}" if family else ", ".join(steps)
        for family, steps in families.items()
    )


def _shown(value: object) -> str:
    if value is None or isinstance(value, SecretStr):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
