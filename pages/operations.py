"""Operations: what waits to be published, what could not be, and what to do about it."""

from dashboard import component

component.operations()
