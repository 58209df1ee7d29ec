"""What a history tells: its steps, the changes between states, who set a field and when."""

from store.analysis.changes import Change, apply, as_patch, diff, undone
from store.analysis.document import ABSENT, document
from store.analysis.stepping import Step, Stepper

__all__ = ["ABSENT", "Change", "Step", "Stepper", "apply", "as_patch", "diff", "document", "undone"]
