"""A query and its parameters, named as they come."""

from collections.abc import Iterable
from typing import Any

from store.database import Database, Row
from store.sources.foreign.layout import Condition


class Query:
    """The parameters of one query to a database."""

    def __init__(self, database: Database) -> None:
        self.parameters: dict[str, Any] = {}
        self._database = database

    def holder(self, value: Any) -> str:
        """The placeholder of a value."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return self._database.bind(name)

    def all(self, conditions: Iterable[Condition]) -> str:
        """SQL for that they are all fulfilled."""
        return (
            " AND ".join(
                f"{expression} {operator} ({', '.join(map(self.holder, values))})"
                for expression, operator, values in conditions
            )
            or "true"
        )

    def rows(self, sql: str) -> list[Row]:
        """The rows of the query, whose values `holder` and `all` have been given."""
        return self._database.rows(sql, self.parameters)
