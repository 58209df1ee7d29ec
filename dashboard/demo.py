"""The demo store: the sample of the configured domain, written once."""

from datetime import UTC, datetime
from pathlib import Path

from store import migrate
from store.sampling import PROCESSES, Order, check_sample, play

PATH = Path("data/demo.db")


def ensure_store(domains: str, path: Path = PATH) -> str:
    """The URL of the demo store at `path`; the sample of `domains` is played where there is none.

    Raises:
        InvalidDomain: none of them makes a sample.
    """
    if not path.exists():
        check_sample(domains)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        url = f"sqlite:///{unfinished}"
        migrate(url)
        order = Order(url=url, domains=domains, until=datetime.now(UTC))
        play(order, processes=PROCESSES)
        unfinished.rename(path)
    return f"sqlite:///{path}"
