"""Sessions without a browser: Streamlit's protocol over a WebSocket, documents over HTTP."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from random import Random
from statistics import quantiles
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urlsplit

from msgspec import Struct
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

THINK = 2.0
_PATIENCE = 60.0


class Load(Struct, frozen=True):
    """The 95th percentile of what the sessions waited for, in milliseconds."""

    rerun: float
    documents: float


class Session:
    """One reader of an aggregate's Timeline."""

    def __init__(self, address: str, aggregate: str) -> None:
        host = urlsplit(address).netloc
        self._query = {"aggregate": aggregate}
        self._page = ""
        self._http = HTTPConnection(host, timeout=_PATIENCE)
        self._socket = connect(
            f"ws://{host}/_stcore/stream",
            origin=Origin(address),
            subprotocols=[Subprotocol("streamlit")],
            max_size=None,
            proxy=None,
        )
        self.rerun()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._http.close()

    def rerun(self) -> float:
        """Have the page's script run; the seconds until it has."""
        asked = BackMsg()
        asked.rerun_script.query_string = urlencode(self._query)
        asked.rerun_script.page_name = "" if self._page else "timeline"
        asked.rerun_script.page_script_hash = self._page
        started = time.perf_counter()
        self._socket.send(asked.SerializeToString())
        while True:
            frame = self._socket.recv(_PATIENCE)
            assert isinstance(frame, bytes)
            told = ForwardMsg.FromString(frame)
            kind = told.WhichOneof("type")
            if kind == "new_session":
                self._page = told.new_session.page_script_hash
            elif kind == "script_finished":
                if told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return time.perf_counter() - started
                if told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    raise SystemExit(f"a rerun ended with status {told.script_finished}")

    def step(self, version: int) -> float:
        """Fetch what a click on a row fetches; the seconds until it is there."""
        started = time.perf_counter()
        for name in ("event", "effect"):
            query = urlencode({**self._query, "version": version})
            self._http.request("GET", f"/documents/{name}?{query}")
            answer = self._http.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{name} of version {version}: {answer.status} {body!r}")
        return time.perf_counter() - started


def load(address: str, aggregate: str, *, versions: int, sessions: int, turns: int) -> Load:
    """What `sessions` wait for at once, each thinking before each of its `turns`."""
    ready = threading.Barrier(sessions, timeout=_PATIENCE)

    def read(number: int) -> list[tuple[float, float]]:
        random = Random(number)
        with Session(address, aggregate) as session:
            ready.wait()
            time.sleep(THINK * random.random())  # people do not click in step
            return [_turn(session, random.randint(1, versions)) for _ in range(turns)]

    with ThreadPoolExecutor(sessions) as pool:
        waited = [turn for turns in pool.map(read, range(sessions)) for turn in turns]
    return Load(_p95([rerun for rerun, _ in waited]), _p95([step for _, step in waited]))


def _turn(session: Session, version: int) -> tuple[float, float]:
    time.sleep(THINK)
    return session.rerun(), session.step(version)


def _p95(seconds: list[float]) -> float:
    return 1_000 * quantiles(seconds, n=20, method="inclusive")[-1]
