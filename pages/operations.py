"""Operations: what waits to be published, what could not be, what to do about it; the archive."""

from dashboard import component

component.operations()
