"""The page of results keeps the parts of the benchmarks that did not run."""

from pathlib import Path

from benchmarks.results import write


def test_a_part_replaces_the_one_with_its_heading_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    write("# One\n\n1\n\n## More\n\n- a\n", page)
    write("# Two\n\n2\n", page)
    write("# One\n\n3\n", page)
    assert page.read_text() == "# One\n\n3\n\n# Two\n\n2\n"
    write("# Two\n\n4\n", page)
    assert page.read_text() == "# One\n\n3\n\n# Two\n\n4\n"
