"""One statement for many sets of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .bodies import BatchCall
from .parameters import refuse
from .statements import Batch, Dialect, bind


def batch_of(call: BatchCall, dialect: Dialect) -> Batch:
    """Find the parameters once, and put each set's values in their order.

    Raises Problem ``bad_request`` that names the set that doesn't match the statement.
    """
    sets = call.params
    if not sets:
        return Batch(bind(call.sql, None, dialect), ())
    first = sets[0]
    if isinstance(first, dict):
        # Bound to their own names, the parameters tell the order of the values.
        statement = bind(call.sql, {name: name for name in first}, dialect)
        rows: Sequence[Sequence[object]] = _in_order(
            [values for values in sets if isinstance(values, dict)],
            [str(name) for name in statement.values],
        )
    else:
        statement = bind(call.sql, first, dialect)
        rows = [values for values in sets if isinstance(values, list)]
        for index, values in enumerate(rows):
            if len(values) != len(first):
                raise refuse(
                    f"it holds {len(values)} values, the statement has {len(first)} parameters",
                    f"params[{index}]",
                )
    return Batch(statement.given(rows[0]), rows)


def _in_order(sets: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[list[object]]:
    rows = []
    for index, values in enumerate(sets):
        try:
            rows.append([values[name] for name in names])
        except KeyError as error:
            name = error.args[0]
            raise refuse(
                f"the statement's parameter :{name} has no value", f"params[{index}].{name}"
            ) from None
    return rows
