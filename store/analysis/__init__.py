"""What a history tells: its steps, the changes between states, who set a field and when."""

from store.analysis.blame import Blame, Entry, FieldBlame, Origin, blame
from store.analysis.changes import Change, apply, as_patch, diff, undone
from store.analysis.document import ABSENT, document
from store.analysis.stepping import Step, Stepper

__all__ = [
    "ABSENT",
    "Blame",
    "Change",
    "Entry",
    "FieldBlame",
    "Origin",
    "Step",
    "Stepper",
    "apply",
    "as_patch",
    "blame",
    "diff",
    "document",
    "undone",
]
