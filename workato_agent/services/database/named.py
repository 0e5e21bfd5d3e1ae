"""Statements that the customer has named in the config."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from .parameters import refuse
from .statements import Dialect, Kind, tokens

_SHOWN: Final = 20


@frozen
class NamedQuery:
    """A statement by name, with the parameters that it seems to have.

    :ivar names: of its ``:name`` parameters, in the order in which they stand, each once.
    :ivar questions: how many ``?`` it has, which may be operators.
    """

    name: str
    sql: str
    names: tuple[str, ...]
    questions: int

    @classmethod
    def of(cls, name: str, sql: str, dialect: Dialect) -> NamedQuery:
        """Look for the parameters."""
        found = list(tokens(sql, dialect))
        names = [sql[token.start + 1 : token.end] for token in found if token.kind is Kind.NAMED]
        questions = sum(token.kind is Kind.QUESTION for token in found)
        return cls(name, sql, tuple(dict.fromkeys(names)), questions)

    def described(self) -> dict[str, object]:
        """For the list of queries. The statement itself is the customer's own."""
        return {
            "name": self.name,
            "names": self.names,
            "positional": 0 if self.names else self.questions,
        }

    def check(self, params: list[object] | dict[str, object] | None) -> None:
        """Raises Problem ``bad_request`` where parameters lack, or are not the query's."""
        if not self.names:
            return
        expected = f"the query's parameters are {', '.join(self.names[:_SHOWN])}"
        if not isinstance(params, dict):
            raise refuse("expected an object with a value for each name", "params", expected)
        for name in self.names:
            if name not in params:
                raise refuse("the parameter has no value", f"params.{name}", expected)
        for name in params:
            if name not in self.names:
                raise refuse("the query has no such parameter", f"params.{name[:100]}", expected)
