"""The how-to about tables of other systems, followed word by word."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests import foreign
from tests.servers import PostgresServer
from tests.unit.test_howto import commands, named_files, page, run


@pytest.fixture
def shop(postgres_server: PostgresServer) -> Iterator[str]:
    """message-db's table with the order of the page."""
    name = f"howto_{uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    url = postgres_server.url(name)
    foreign.build_message_db(url)
    told = [
        ("Opened", {"customer": "ada"}, "2026-11-22T09:00:00Z"),
        ("ItemAdded", {"sku": "pen", "price": 120}, "2026-11-22T09:01:00Z"),
    ]
    lines = [
        {
            "event_id": str(uuid4()),
            "aggregate_id": "order-7",
            "event_type": event_type,
            "version": version,
            "data": data,
            "occurred_at": moment,
        }
        for version, (event_type, data, moment) in enumerate(told)
    ]
    foreign.fill_message_db(url, lines)
    yield url
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
def test_what_the_page_has_typed_prints_what_it_says(shop: str, tmp_path: Path) -> None:
    text = page("other-stores.md")
    [(name, content)] = named_files(text)
    (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 2
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), EVENT_STORE_URL=shop)
        assert (done.returncode, done.stdout) == (0, each.printed)
