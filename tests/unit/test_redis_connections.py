"""Connections to Redis: an answer is the one to the command that was asked."""

import threading
from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TooLate

from store.cache import connections
from store.cache.connections import Connections
from store.cache.shared import connect
from tests import servers
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with servers.redis() as server:
        yield server


@pytest.fixture
def opened(server: RedisServer) -> Iterator[Connections]:
    opened = Connections(connect(server.url).connection_pool)
    yield opened
    opened.close()


def own_id(opened: Connections) -> int:
    return int(opened.ask(b"CLIENT", b"ID"))


def test_one_is_used_again(opened: Connections) -> None:
    assert own_id(opened) == own_id(opened)


def test_an_error_is_an_answer(opened: Connections) -> None:
    first = own_id(opened)
    with pytest.raises(ResponseError):
        opened.ask(b"NOTHING")
    assert own_id(opened) == first


def test_what_comes_too_late_is_nobodys_answer(opened: Connections) -> None:
    first = own_id(opened)
    with pytest.raises(TooLate):
        opened.ask(b"BLPOP", b"nothing", b"0.3")
    assert own_id(opened) != first


def test_one_that_was_closed_while_idle_is_replaced(
    opened: Connections, server: RedisServer
) -> None:
    first = own_id(opened)
    with server.client() as client:
        client.client_kill_filter(_id=str(first))
    assert own_id(opened) != first


def test_a_new_one_that_is_closed_is_an_error(server: RedisServer) -> None:
    opened = Connections(connect(server.url).connection_pool)
    server.kill()
    with pytest.raises(Disconnected):
        own_id(opened)
    server.start()
    assert own_id(opened) > 0
    opened.close()


def test_threads_have_one_each(opened: Connections) -> None:
    answers: list[tuple[bytes, bytes]] = []

    def ask(name: bytes) -> None:
        for number in range(200):
            said = b"%b %d" % (name, number)
            answers.append((opened.ask(b"ECHO", said), said))

    threads = [threading.Thread(target=ask, args=(b"%d" % number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 800
    assert all(answer == said for answer, said in answers)


def test_a_forked_process_leaves_those_of_its_parent_alone(
    opened: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own_id(opened)
    monkeypatch.setattr(connections, "getpid", lambda: -1)
    assert own_id(opened) != first
