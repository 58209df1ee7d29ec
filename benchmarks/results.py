"""The page of results: a part for each benchmark, written by that one alone."""

import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_PART = re.compile(r"^(?=# )", re.MULTILINE)


def write(part: str, path: Path = RESULTS) -> None:
    """Put `part`, which begins with a heading, in the place of the part with that heading."""
    parts = _PART.split(path.read_text())[1:] if path.exists() else []
    heading, _, _ = part.partition("\n")
    headings = [each.partition("\n")[0] for each in parts]
    if heading in headings:
        parts[headings.index(heading)] = part
    else:
        parts.append(part)
    path.write_text("\n".join(each.strip() + "\n" for each in parts))
