"""Who holds readers of the feed, and for how long."""

from datetime import UTC, datetime

from store.cli.columns import span_text
from store.records import Holder


def by_whom(holder: Holder) -> str:
    """As a line goes on that says that readers are held."""
    who = "a prepared transaction" if holder.pid is None else f"pid {holder.pid}"
    if holder.since is None:
        return f"by {who}"
    # The server's clock may be ahead of ours.
    seconds = max((datetime.now(UTC) - holder.since).total_seconds(), 0)
    return f"by {who} for {span_text(seconds)}"
