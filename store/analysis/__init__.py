"""What a history tells: its steps, the changes between states, who set a field and when.

And from which version to which a question to the state had which answer.
"""

from store.analysis.bisect import Bisection, Found, Interval, bisect, bisect_type, watch
from store.analysis.blame import Blame, Entry, FieldBlame, Origin, blame
from store.analysis.changes import Change, apply, as_patch, diff, undone
from store.analysis.document import ABSENT, document
from store.analysis.evaluation import Evaluation
from store.analysis.expression import UNDEFINED, Answer, Expression
from store.analysis.stepping import Step, Stepper

__all__ = [
    "ABSENT",
    "UNDEFINED",
    "Answer",
    "Bisection",
    "Blame",
    "Change",
    "Entry",
    "Evaluation",
    "Expression",
    "FieldBlame",
    "Found",
    "Interval",
    "Origin",
    "Step",
    "Stepper",
    "apply",
    "as_patch",
    "bisect",
    "bisect_type",
    "blame",
    "diff",
    "document",
    "undone",
    "watch",
]
