"""The demo store: the sample of a domain, written once."""

from pathlib import Path

import pytest

from dashboard.demo import ensure_store
from store import Hindsight
from store.errors import InvalidDomain


@pytest.mark.slow
def test_the_store_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "demo.db"
    url = ensure_store("users:domain", path)
    written = path.stat().st_mtime_ns
    assert ensure_store("users:domain", path) == url
    assert path.stat().st_mtime_ns == written
    with Hindsight(url) as store:
        assert store.counts().events > 2_500
        assert set(store.counts().aggregates_by_type) == {"user"}
    assert [found.name for found in path.parent.iterdir()] == ["demo.db"]


def test_without_a_domain_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidDomain, match="no domain named"):
        ensure_store("", tmp_path / "demo.db")
    assert list(tmp_path.iterdir()) == []
