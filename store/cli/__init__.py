"""The command line: `hindsight`, or `python -m store`."""

from store.cli.append import append
from store.cli.archive import archive
from store.cli.bisect import bisect, watch
from store.cli.blame import blame
from store.cli.cache import cache
from store.cli.conflicts import conflicts
from store.cli.demo import demo
from store.cli.diff import diff_states
from store.cli.events import events
from store.cli.migrate import migrate
from store.cli.open import open_dashboard
from store.cli.outbox import outbox
from store.cli.program import hindsight
from store.cli.projections import projections
from store.cli.replay import replay
from store.cli.snapshot import snapshot
from store.cli.stats import stats
from store.cli.trace import trace
from store.cli.transfer import export, import_
from store.cli.transitions import transitions
from store.cli.upcasters import upcasters
from store.cli.verify import verify
from store.cli.work import work

for command in (
    migrate,
    import_,
    export,
    append,
    events,
    replay,
    diff_states,
    blame,
    transitions,
    bisect,
    watch,
    trace,
    stats,
    verify,
    upcasters,
    snapshot,
    cache,
    conflicts,
    outbox,
    projections,
    archive,
    work,
    open_dashboard,
    demo,
):
    hindsight.add_command(command)

main = hindsight.main

__all__ = ["hindsight", "main"]
