"""Large stores of made-up histories, for who wants to see how a store does with many events."""

from store.generation.generating import Generated, generate, kinds_of
from store.generation.lives import Kind

__all__ = ["Generated", "Kind", "generate", "kinds_of"]
