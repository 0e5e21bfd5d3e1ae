"""The words that a statement may be made of where ``tables`` limits it; no others.

Names of tables, columns and aliases are not words in this sense; functions are listed by product in
:mod:`.guard_functions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .guard_names import listed

KEYWORDS: Final = listed(
    """
    all and any as asc at between both by case cast collate conflict cross cube current default
    delete desc distinct do duplicate else end escape except exclude exists extract false fetch
    filter first following for from full glob group groups grouping having if ignore ilike in
    inner insert intersect interval into is isnull join key last lateral leading left like limit
    match matched materialized merge minus natural next no not nothing notnull null nulls of
    offset on only or order ordinality others outer over overlaps overlay partition placing
    position preceding range recursive regexp replace respect returning right rlike rollup row
    rows select separator set sets share siblings similar skip some substring sum symmetric
    asymmetric system tablesample bernoulli repeatable then ties to top percent trailing trim
    true try_cast unbounded union unknown update using values wait when where window with within
    without zone time apply pivot unpivot array convert try_convert straight_join div mod xor
    binary sounds low_priority prior connect start nocycle level nowait locked match_recognize
    xmlagg output inserted deleted
    """
)

BEFORE_BRACKET: Final = listed(
    """
    all and any apply array as bernoulli between by case cast conflict convert cross cube
    distinct else except exists extract filter from glob group grouping having if in insert
    intersect interval into is join lateral left like limit match materialized minus mod not of
    offset on only or outer over overlay pivot position regexp repeatable replace returning
    right rlike rollup row select set sets some substring sum system then top trim try_cast
    try_convert union unpivot using values when where with xor
    """
)
"""Keywords after which a bracket may open."""

UNITS: Final = listed(
    """
    century centuries day days day_hour day_minute day_second dayofyear dd ddd dow doy decade
    decades epoch hh hour hours hour_minute hour_second iso_week isodow isowk isoww isoyear
    julian mcs mi microsecond microseconds millennium millisecond milliseconds minute minutes
    minute_second mm month months ms nanosecond ns qq quarter second seconds ss timezone
    timezone_hour timezone_minute week weekday weeks wk ww year year_month years yy yyyy dy dw
    """
)

TYPES: Final = listed(
    """
    bigint bigserial bit bool boolean bytea char character cidr date datetime datetime2
    datetimeoffset dec decimal double enum float float4 float8 inet int int2 int4 int8 integer
    json jsonb long macaddr mediumint mediumtext money nchar ntext number numeric nvarchar
    nvarchar2 precision raw real rowversion signed smalldatetime smallint smallmoney super
    sql_variant text time timestamp timestamptz timetz tinyint tsquery tsvector uniqueidentifier
    unsigned uuid varbinary varbyte varchar varchar2 varying xml year daterange int4range
    int8range numrange tsrange tstzrange blob clob nclob hex utf8 utf8mb4 latin1 charset
    character_set max
    """
)

WITHOUT_BRACKETS: Final = listed(
    """
    current_date current_time current_timestamp current_user localtime localtimestamp
    session_user user sysdate systimestamp rownum rowid dual sessiontimezone dbtimezone utc_date
    utc_time utc_timestamp
    """
)
"""Functions and the like that stand without brackets."""

RESERVED: Final = listed(
    """
    all and any as asc between by case cast collate create cross delete desc distinct do drop
    else except exec execute exists fetch for from full grant group having in inner insert
    intersect into is join lateral left like limit minus natural not null offset on only or
    order outer procedure returning revoke right select set table then to truncate union update
    using values when where window with call copy merge outfile dumpfile tablesample unpivot
    pivot
    """
)
"""Words that are never the name of something unless they are quoted."""

SQLSERVER_RESERVED: Final = listed(
    """
    add alter authorization backup begin break browse bulk checkpoint close clustered commit
    compute containstable continue cursor database dbcc deallocate declare deny disk distributed
    dump errlvl exit external file freetexttable goto if kill lineno load off open
    opendatasource openquery openrowset openxml option over percent plan print raiserror read
    readtext reconfigure replication restore restrict return revert rollback save schema
    semantickeyphrasetable semanticsimilaritytable setuser shutdown statistics textsize top tran
    transaction trigger tsequal use waitfor while writetext updatetext
    """
)
"""SQL Server's statements need no semicolon between them: these would begin another one."""

RESERVED_BY_PRODUCT: Final[Mapping[str, frozenset[str]]] = {
    "sqlserver": RESERVED | SQLSERVER_RESERVED
}

STATEMENTS: Final = ("select", "with", "values", "insert", "update", "delete", "merge")

HINTS: Final = frozenset(("nolock", "readuncommitted", "readpast"))

_SET: Final = "this expression distinct order limit offset with_ by_name"
STRUCTURE: Final[Mapping[str, frozenset[str]]] = {
    name: listed(parts)
    for name, parts in {
        "Alias": "this alias",
        "Aliases": "this expressions",
        "AtTimeZone": "this zone",
        "Between": "this low high symmetric",
        "BitString": "this",
        "Boolean": "this",
        "Bracket": "this expressions offset safe returns_list_for_maps",
        "ByteString": "this is_bytes",
        "CTE": "this alias materialized",
        "Column": "this table db catalog join_mark",
        "ColumnDef": "this kind",
        "Connect": "start connect nocycle",
        "Cube": "expressions",
        "DataType": "this expressions nested values",
        "DataTypeParam": "this expression",
        "Delete": "this tables using where returning limit order with_",
        "Distinct": "expressions on",
        "Except": _SET,
        "Fetch": "direction count limit_options",
        "Filter": "this expression",
        "From": "this",
        "Group": "expressions cube rollup grouping_sets all",
        "GroupingSets": "expressions",
        "Having": "this",
        "HexString": "this is_integer",
        "Identifier": "this quoted",
        "IgnoreNulls": "this",
        "In": "this expressions query",
        "Insert": "this expression alternative conflict returning ignore default with_",
        "Intersect": _SET,
        "Interval": "this unit",
        "IntervalSpan": "this expression",
        "JSON": "this with_ unique",
        "JSONKeyValue": "this expression",
        "JSONPath": "expressions",
        "JSONPathKey": "this quoted",
        "JSONPathRoot": "",
        "JSONPathSubscript": "this",
        "JSONPathWildcard": "",
        "Join": "this on using side kind method",
        "Lateral": "this alias cross_apply outer ordinality",
        "Limit": "this expression offset limit_options expressions",
        "LimitOptions": "percent rows with_ties",
        "Literal": "this is_string",
        "Lock": "update expressions wait key",
        "Merge": "this using on whens returning with_",
        "National": "this",
        "Null": "",
        "Offset": "this expression",
        "OnConflict": "duplicate expressions action conflict_keys where index_predicate constraint",
        "Order": "this expressions siblings",
        "Ordered": "this desc nulls_first",
        "Pivot": "this alias expressions fields unpivot using group columns include_nulls",
        "PivotAlias": "this alias",
        "Prior": "this",
        "Pseudocolumn": "this table",
        "RespectNulls": "this",
        "Returning": "expressions",
        "Rollup": "expressions",
        "Schema": "this expressions",
        "Select": "expressions distinct from_ joins laterals where group having windows qualify"
        " order limit offset connect locks with_",
        "Slice": "this expression",
        "Star": "",
        "Subquery": "this alias joins order limit offset with_ pivots",
        "Table": "this alias db catalog joins laterals pivots hints only sample ordinality",
        "TableAlias": "this columns",
        "TableSample": "method percent expressions size seed rows",
        "Tuple": "expressions",
        "Union": _SET,
        "Update": "this expressions from_ where returning order limit with_",
        "Values": "expressions alias order limit offset",
        "Var": "this",
        "When": "matched source condition then",
        "Whens": "expressions",
        "Where": "this",
        "Window": "this partition_by order spec alias over first",
        "WindowSpec": "kind start start_side end end_side exclude",
        "With": "expressions recursive",
        "WithTableHint": "expressions",
        "WithinGroup": "this expression",
    }.items()
}
"""Classes of sqlglot that may be in a statement, and their parts; any others are refused.

Operators, predicates and functions may be there too, but for those named below.
"""

NAMES: Final[Mapping[str, frozenset[str]]] = {
    name: listed(parts)
    for name, parts in {
        "Alias": "alias",
        "Anonymous": "expressions",
        "Column": "this table db catalog",
        "ColumnDef": "this",
        "Join": "using",
        "OnConflict": "conflict_keys constraint",
        "Schema": "expressions",
        "Table": "this db catalog",
        "TableAlias": "this columns",
        "Window": "this alias",
    }.items()
}
"""Where a name may stand. Elsewhere it might be that of a table."""

NOT_OPERATORS: Final = ("Dot", "Operator", "NestedJSONSelect", "PropertyEQ", "ForIn", "Distance")
"""Subclasses of operators that are refused."""

NOT_FUNCTIONS: Final = (
    "NextValueFor", "ReadCSV", "ReadParquet", "XMLTable", "JSONTable", "OpenJSON",
)  # fmt: skip
"""Subclasses of functions that are refused, whatever their name."""
