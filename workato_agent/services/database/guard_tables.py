"""Which tables a statement touches, and whether ``policy.tables`` lists all of them.

The statement is parsed by sqlglot, and its answer is taken only for statements of which every word
is accounted for: all of them are read alike by everybody (:mod:`.guard_lexis`), each is a known
keyword, a known function or type, or the name of something that the parser has found at that very
place, and the tree holds nothing but what is known to be harmless. The rest is refused.

sqlglot is imported with the first statement of a profile with ``tables``: it takes 0.2 s and 15 MB.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from .guard_columns import check_columns
from .guard_functions import FUNCTIONS
from .guard_lexis import Doubtful, Lexeme, Mark, Plain, read
from .guard_names import MYSQL_ACTIONS, POSTGRESQL_ACTIONS, SQLITE_ACTIONS
from .guard_patterns import Patterns, Reference, Refused, fold
from .guard_vocabulary import (
    BEFORE_BRACKET,
    HINTS,
    KEYWORDS,
    NAMES,
    NOT_FUNCTIONS,
    NOT_OPERATORS,
    RESERVED,
    RESERVED_BY_PRODUCT,
    STATEMENTS,
    STRUCTURE,
    TYPES,
    UNITS,
    WITHOUT_BRACKETS,
)

if TYPE_CHECKING:
    from sqlglot import exp

SQLGLOT: Final = {
    "postgresql": "postgres",
    "redshift": "redshift",
    "mysql": "mysql",
    "sqlite": "sqlite",
    "sqlserver": "tsql",
    "oracle": "oracle",
}
_ACTIONS: Final = POSTGRESQL_ACTIONS | MYSQL_ACTIONS | SQLITE_ACTIONS
_LONGEST: Final = {"postgresql": 63, "redshift": 127}
"""Bytes of a name: what is longer is cut off by the server, and is another name then."""
_MOST_NAMES: Final = 200

Names = frozenset[str]


def check(sql: str, product: str, patterns: Patterns) -> None:
    """Let a statement pass. Raises Refused."""
    try:
        plain = read(sql, product)
    except Doubtful as doubt:
        raise Refused(str(doubt), doubt.offset) from None
    lexemes = _without_last_semicolon(plain.lexemes)
    first = next((lexeme for lexeme in lexemes if lexeme.text != "("), None)
    if first is None or first.text not in STATEMENTS:
        raise Refused("only queries, INSERT, UPDATE, DELETE and MERGE are allowed")
    tree = _parse(plain, product)
    for node in tree.walk():
        _check_node(node, product)
    _Accounts(tree, product).check(lexemes)
    for table in _tables(tree, product):
        patterns.check_reference(table)
    check_columns(tree, product)


def _without_last_semicolon(lexemes: Sequence[Lexeme]) -> Sequence[Lexeme]:
    end = len(lexemes)
    while end and lexemes[end - 1].text == ";":
        end -= 1
    for lexeme in lexemes[:end]:
        if lexeme.text == ";":
            raise Refused("more than one statement is not allowed", lexeme.start)
    return lexemes[:end]


def _parse(plain: Plain, product: str) -> exp.Expr:
    """The statement's tree, once sqlglot is known to find strings and names where they are."""
    sqlglot = _sqlglot()
    dialect = sqlglot.Dialect.get_or_raise(SQLGLOT[product])
    try:
        tokens = dialect.tokenize(plain.sql)
        _compare(plain, tokens)
        trees = [tree for tree in dialect.parser().parse(tokens, plain.sql) if tree is not None]
    except sqlglot.errors.ParseError as error:
        where = error.errors[0] if error.errors else {}
        description, _, _ = str(where.get("description") or "a syntax error").partition(" <")
        raise Refused(f"it can't be parsed: {description}") from None
    except sqlglot.errors.SqlglotError:
        raise Refused("it can't be parsed") from None
    except RecursionError:
        raise Refused("it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - whatever a parser stumbles over is refused
        raise Refused(f"it can't be parsed: {type(error).__name__}") from None
    if len(trees) != 1:
        raise Refused("more than one statement is not allowed")
    tree: exp.Expr = trees[0]
    return tree


@cache
def _sqlglot() -> Any:
    import sqlglot  # noqa: PLC0415 - it costs time and memory that most profiles need not spend
    import sqlglot.errors  # noqa: PLC0415

    # Its warnings quote statements.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    return sqlglot


def _compare(plain: Plain, tokens: Sequence[Any]) -> None:
    """Refuse a statement in which sqlglot finds other strings and quoted names than we do."""
    ours = {
        (lexeme.start, lexeme.end)
        for lexeme in plain.lexemes
        if lexeme.mark in (Mark.STRING, Mark.NAME)
    }
    theirs = {
        (token.start, token.end + 1)
        for token in tokens
        if any(quote in plain.sql[token.start : token.end + 1] for quote in "'\"`")
        or (plain.sql[token.start] == "[" and token.end > token.start)
    }
    if ours != theirs:
        raise Refused("its strings and quoted names may be read in more than one way")


@cache
def _families() -> tuple[frozenset[type], tuple[type, ...]]:
    """The classes that are refused among families of classes that are allowed, and the families."""
    expressions = _sqlglot().exp
    names = (name for name in (*NOT_OPERATORS, *NOT_FUNCTIONS) if hasattr(expressions, name))
    families = (
        expressions.Binary, expressions.Unary, expressions.Predicate, expressions.Func,
        expressions.SubqueryPredicate,
    )  # fmt: skip
    return frozenset(getattr(expressions, name) for name in names), families


def _check_node(node: exp.Expr, product: str) -> None:
    forbidden, families = _families()
    kind = type(node)
    name = kind.__name__
    parts = STRUCTURE.get(name)
    if parts is None:
        if kind in forbidden or not issubclass(kind, families):
            raise Refused(f"{name} is not allowed here", _start(node))
    elif not parts.issuperset(_given(node)):
        raise Refused(f"a part of {name} is not allowed here", _start(node))
    if name == "Table":
        if type(node.this).__name__ != "Identifier" and not isinstance(node.this, families):
            raise Refused("a table is written in an unusual way", _start(node))
    elif name == "Identifier":
        _check_name(node, product)
    elif name == "DataType" and node.this.name in ("USERDEFINED", "UNKNOWN", "XML"):
        raise Refused("a type is not known: use the name of a built-in one")


def _start(node: exp.Expr) -> int | None:
    start: int | None = node.meta.get("start")
    return start


def _check_name(node: exp.Expr, product: str) -> None:
    text = node.this
    if not isinstance(text, str):
        raise Refused("a name is written in an unusual way", _start(node))
    if node.arg_key not in NAMES.get(type(node.parent).__name__, ()):
        raise Refused(f"{text} is not allowed here", _start(node))
    longest = _LONGEST.get(product)
    if longest is not None and len(text.encode("utf-8", "surrogatepass")) > longest:
        raise Refused(f"a name is longer than {longest} bytes", _start(node))
    if text.lower() in _ACTIONS:
        # PostgreSQL calls a function that is written like a column: value.function
        raise Refused(
            f"{text} is not allowed: it is the name of a function", node.meta.get("start")
        )


class _Accounts:
    """Accounts for every word of a statement."""

    def __init__(self, tree: exp.Expr, product: str) -> None:
        self._product = product
        self._reserved = RESERVED_BY_PRODUCT.get(product, RESERVED)
        self._functions = FUNCTIONS[product]
        self._plain: set[int] = set()
        self._listed: set[int] = set()
        for node in tree.walk():
            if type(node).__name__ == "Identifier":
                start = node.meta.get("start")
                if start is None:
                    raise Refused("a name is written in an unusual way")
                (self._listed if _has_list(node) else self._plain).add(start)

    def check(self, lexemes: Sequence[Lexeme]) -> None:
        """Raises Refused for a word that is not accounted for."""
        for index, lexeme in enumerate(lexemes):
            if lexeme.mark not in (Mark.WORD, Mark.NAME):
                continue
            opens = index + 1 < len(lexemes) and lexemes[index + 1].text == "("
            dotted = index > 0 and lexemes[index - 1].text == "."
            if lexeme.mark is Mark.WORD and not dotted and self._known(lexeme, opens=opens):
                continue
            if opens and self._is_outer_join(lexemes, index):
                opens = False
            if opens and lexeme.start not in self._listed:
                raise Refused(
                    f"the function {lexeme.text} is not among those that are allowed", lexeme.start
                )
            if not opens and lexeme.start not in self._plain | self._listed:
                raise Refused(f"{lexeme.text} is not allowed here", lexeme.start)

    def _is_outer_join(self, lexemes: Sequence[Lexeme], index: int) -> bool:
        """Whether a column is followed by Oracle's ``(+)``."""
        marks = [lexeme.text for lexeme in lexemes[index + 1 : index + 4]]
        return self._product == "oracle" and marks == ["(", "+", ")"]

    def _known(self, lexeme: Lexeme, *, opens: bool) -> bool:
        word = lexeme.text
        is_name = lexeme.start in self._plain or lexeme.start in self._listed
        if is_name and word in self._reserved:
            raise Refused(f"{word} is a keyword: as a name it has to be quoted", lexeme.start)
        if opens:
            return word in BEFORE_BRACKET or word in TYPES or word in self._functions
        return (
            word in KEYWORDS
            or word in TYPES
            or word in UNITS
            or word in WITHOUT_BRACKETS
            or (word in HINTS and self._product == "sqlserver")
        )


def _has_list(identifier: exp.Expr) -> bool:
    """Whether a list in brackets may follow: after an alias, or a table to insert into."""
    parent = identifier.parent
    if parent is None:
        return False
    kind = type(parent).__name__
    if kind == "TableAlias":
        return identifier.arg_key == "this" and bool(parent.args.get("columns"))
    if kind == "Table":
        return type(parent.parent).__name__ == "Schema" and identifier.arg_key == "this"
    return False


def _tables(tree: exp.Expr, product: str) -> Iterator[Reference]:
    """The tables in a statement; names that are those of a WITH are left out where it is in force.

    Where databases differ on that, a name counts as a table.
    """
    waiting: list[tuple[Any, Names]] = [(tree, frozenset())]
    while waiting:
        node, names = waiting.pop()
        kind = type(node).__name__
        clause = node.args.get("with_")
        if clause is not None:
            names = _common(clause, names, product, waiting)
        if kind == "Table" and type(node.this).__name__ == "Identifier":
            reference = _reference(node, product)
            plain = not node.args.get("db") and not node.args.get("catalog")
            if not (plain and reference.name in names):
                yield reference
        changes = kind in ("Insert", "Update", "Delete", "Merge")
        skipped = _aliases_changed(node, kind, product)
        for key, value in node.args.items():
            if key == "with_" or key in skipped:
                continue
            # What is changed is never what a WITH has named.
            scope = frozenset[str]() if changes and key in ("this", "tables") else names
            children = value if isinstance(value, list) else (value,)
            waiting += ((child, scope) for child in children if hasattr(child, "args"))


def _aliases_changed(node: Any, kind: str, product: str) -> frozenset[str]:
    """The parts of an UPDATE or DELETE that only repeat an alias of its FROM.

    SQL Server has ``UPDATE o SET … FROM orders AS o``, MySQL too ``DELETE o FROM orders AS o``.
    """
    if kind == "Update" and product == "sqlserver":
        key, first = "this", node.args.get("from_")
        first = None if first is None else first.this
    elif kind == "Delete" and product in ("mysql", "sqlserver"):
        key, first = "tables", node.this
    else:
        return frozenset()
    if type(first).__name__ != "Table":
        return frozenset()
    sources = (first, *(join.this for join in first.args.get("joins") or ()))
    aliases = {source.alias for source in sources if source.args.get("alias")}
    targets = node.args.get(key)
    for target in targets if isinstance(targets, list) else (targets,):
        bare = type(target).__name__ == "Table" and set(_given(target)) == {"this"}
        if not bare or target.name not in aliases:
            return frozenset()
    return frozenset((key,)) if targets else frozenset()


def _given(node: Any) -> list[str]:
    return [key for key, value in node.args.items() if value]


def _common(clause: Any, names: Names, product: str, waiting: list[tuple[Any, Names]]) -> Names:
    """What a WITH names; its own queries are put among those that wait."""
    if len(names) + len(clause.expressions) > _MOST_NAMES:
        raise Refused(f"WITH names more than {_MOST_NAMES} queries")
    for query in clause.expressions:
        alias = query.args["alias"]
        name = fold(alias.this.this, product, quoted=bool(alias.this.args.get("quoted")))
        own = names
        if _sees_itself(clause, alias, product):
            own = names | {name}
        waiting.append((query.this, own))
        names = names | {name}
    return names


def _sees_itself(clause: Any, alias: Any, product: str) -> bool:
    if type(alias.parent.this).__name__ != "Union":
        return False
    if product in ("sqlite", "sqlserver"):
        return True
    if product == "oracle":
        return bool(alias.args.get("columns"))
    return bool(clause.args.get("recursive"))


def _reference(table: Any, product: str) -> Reference:
    parts: list[str | None] = []
    for key in ("catalog", "db", "this"):
        part = table.args.get(key)
        if not part:
            parts.append(None)
        elif type(part).__name__ != "Identifier":
            raise Refused("a table is written in an unusual way", table.meta.get("start"))
        else:
            parts.append(fold(part.this, product, quoted=bool(part.args.get("quoted"))))
    catalogue, schema, name = parts
    if name is None or (catalogue is not None and schema is None):
        raise Refused("a table is written in an unusual way")
    return Reference(catalogue, schema, name)
