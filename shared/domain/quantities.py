"""Amounts of processor and memory as Kubernetes writes them: `2000m`, `512Mi`."""

import re

_MEMORY = re.compile(r"(\d{1,12})(Ki|Mi|Gi)", re.ASCII)
_CPU = re.compile(r"(\d{1,9})(m?)", re.ASCII)
_UNITS = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


def memory_bytes(quantity: str) -> int:
    """Return `512Mi` as bytes.

    Raises:
        ValueError: It is no amount of memory.
    """
    match = _MEMORY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no amount of memory such as 512Mi")
    return int(match[1]) * _UNITS[match[2]]


def millicores(quantity: str) -> int:
    """Return `2000m`, or `2`, as thousandths of a core.

    Raises:
        ValueError: It is no amount of processor.
    """
    match = _CPU.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no amount of processor such as 500m")
    return int(match[1]) * (1 if match[2] else 1000)


def memory_quantity(size: int) -> str:
    """Return bytes as the shortest exact amount, e.g. `512Mi`."""
    for unit in ("Gi", "Mi", "Ki"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{-(-size // 1024)}Ki"
