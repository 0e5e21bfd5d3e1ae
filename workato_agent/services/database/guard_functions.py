"""Functions that compute their result from their arguments and do nothing else, by product.

Where ``tables`` limits a profile only these may be called: any other function might read a table, a
file or another server, run SQL that it is given as text, or change a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .guard_names import listed

_COMMON: Final = """
    abs acos asin atan atan2 avg cast ceil ceiling char_length character_length coalesce concat
    concat_ws cos cot count cume_dist degrees dense_rank exp extract first_value floor greatest
    grouping lag last_value lead least left length ln log lower lpad ltrim max min mod nth_value
    ntile nullif octet_length percent_rank percentile_cont percentile_disc pi position power
    radians rank regexp_count regexp_instr regexp_like regexp_replace regexp_substr repeat replace
    reverse right round row_number rpad rtrim sign sin sqrt stddev stddev_pop stddev_samp substring
    sum tan trim upper var_pop var_samp variance covar_pop covar_samp corr any_value
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    """
_POSTGRESQL: Final = """
    acosd acosh age array array_agg array_append array_cat array_dims array_fill array_length
    array_lower array_ndims array_position array_positions array_prepend array_remove array_replace
    array_to_json array_to_string array_upper ascii asind asinh atan2d atand atanh bit_and
    bit_count bit_length bit_or bit_xor bool_and bool_or btrim cardinality cbrt chr clock_timestamp
    convert_from convert_to cosd cosh cotd current_database current_schema date date_bin date_part
    date_trunc decode div encode erf erfc every factorial format gcd gen_random_uuid
    generate_series generate_subscripts get_bit get_byte host initcap inet_merge isempty isfinite
    json_agg json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_extract_path json_extract_path_text json_object
    json_object_agg json_object_keys json_populate_record json_populate_recordset json_strip_nulls
    json_to_record json_to_recordset json_typeof jsonb_agg jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
    jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query
    jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours
    justify_interval lcm log10 lower_inc lower_inf make_date make_interval make_time make_timestamp
    make_timestamptz masklen md5 mode netmask network now num_nonnulls num_nulls numrange daterange
    int4range int8range tsrange tstzrange overlay parse_ident pg_typeof quote_ident quote_literal
    quote_nullable random range_agg range_merge regexp_match regexp_matches regexp_split_to_array
    regexp_split_to_table row row_to_json scale sha224 sha256 sha384 sha512 sind sinh split_part
    starts_with statement_timestamp string_agg string_to_array string_to_table strpos substr tand
    tanh timeofday to_ascii to_char to_date to_hex to_json to_jsonb to_number to_timestamp
    to_tsquery to_tsvector transaction_timestamp translate trim_array trim_scale trunc ts_headline
    ts_rank ts_rank_cd plainto_tsquery phraseto_tsquery websearch_to_tsquery strip setweight
    unaccent unnest upper_inc upper_inf uuid_generate_v4 version width_bucket min_scale
    make_tsrange similarity word_similarity levenshtein soundex metaphone
    """
_REDSHIFT: Final = """
    add_months approximate bpcharcmp charindex convert_timezone crc32 dateadd datediff date_cmp
    dayofyear decode dexp dlog1 dlog10 func_sha1 getdate interval_cmp is_valid_json
    is_valid_json_array json_extract_array_element_text json_parse json_serialize last_day len
    listagg median months_between next_day nvl nvl2 ratio_to_report sha sha1 sha2 strtol sysdate
    textlen timezone trunc isnull
    """
_MYSQL: Final = """
    adddate addtime ascii bin bit_and bit_count bit_length bit_or bit_xor char conv convert
    convert_tz crc32 curdate current_date current_time current_timestamp curtime database date
    date_add date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear elt
    export_set field find_in_set format from_base64 from_days from_unixtime get_format
    group_concat hex hour if ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa insert instr interval
    is_uuid isnull json_array json_array_append json_array_insert json_arrayagg json_compact
    json_contains json_contains_path json_depth json_detailed json_exists json_extract json_insert
    json_keys json_length json_loose json_merge_patch json_merge_preserve json_object
    json_objectagg json_overlaps json_pretty json_query json_quote json_remove json_replace
    json_search json_set json_type json_unquote json_valid json_value last_day lcase locate log10
    log2 make_set makedate maketime md5 microsecond mid minute month monthname now nvl nvl2 oct ord
    period_add period_diff pow quarter quote rand sec_to_time second sha sha1 sha2 soundex space std
    str_to_date strcmp subdate substr substring_index subtime sysdate time time_format time_to_sec
    timediff timestamp timestampadd timestampdiff to_base64 to_char to_days to_seconds trunc
    truncate ucase unhex unix_timestamp utc_date utc_time utc_timestamp uuid values version week
    weekday weekofyear weight_string year yearweek
    """
_SQLITE: Final = """
    changes char date datetime glob group_concat hex ifnull iif instr json json_array
    json_array_length json_each json_error_position json_extract json_group_array json_group_object
    json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set
    json_tree json_type json_valid jsonb jsonb_array jsonb_extract jsonb_group_array
    jsonb_group_object jsonb_object julianday last_insert_rowid like likelihood likely log10 log2
    nullif octet_length pow printf format quote random randomblob soundex sqlite_version
    strftime string_agg substr time timediff total total_changes trunc typeof unhex unicode
    unixepoch unlikely zeroblob acosh asinh atanh cosh sinh tanh median
    """
_SQLSERVER: Final = """
    app_name approx_count_distinct ascii atn2 char charindex checksum checksum_agg choose convert
    count_big current_timestamp dateadd datediff datediff_big datefromparts datename datepart
    date_bucket datetime2fromparts datetimefromparts datetimeoffsetfromparts datetrunc day
    db_name difference eomonth format generate_series getdate getutcdate grouping_id hashbytes iif
    isdate isjson isnull isnumeric json_array json_object json_path_exists json_query json_value
    len log10 month nchar newid parse patindex quotename rand replicate session_user
    smalldatetimefromparts soundex space square stdev stdevp str string_agg string_escape
    string_split stuff switchoffset sysdatetime sysdatetimeoffset system_user sysutcdatetime
    timefromparts todatetimeoffset translate try_cast try_convert try_parse unicode upper var varp
    year
    """
_ORACLE: Final = """
    add_months approx_count_distinct ascii asciistr bitand cardinality chr collect compose convert
    current_date current_timestamp decode decompose dump extract first from_tz group_id hextoraw
    initcap instr instrb instrc json_array json_arrayagg json_exists json_object json_objectagg
    json_query json_serialize json_value last last_day lengthb listagg lnnvl localtimestamp median
    months_between nanvl new_time next_day nls_initcap nls_lower nls_upper nlssort
    numtodsinterval numtoyminterval nvl nvl2 ora_hash rank ratio_to_report rawtohex remainder
    rowidtochar round sinh cosh tanh soundex standard_hash stats_mode substr substrb substrc
    sys_connect_by_path sys_extract_utc sys_guid to_binary_double to_binary_float to_char to_clob
    to_date to_dsinterval to_multi_byte to_nchar to_nclob to_number to_single_byte to_timestamp
    to_timestamp_tz to_yminterval translate trunc tz_offset unistr validate_conversion vsize
    width_bucket xmlagg
    """

FUNCTIONS: Final[Mapping[str, frozenset[str]]] = {
    "postgresql": listed(_COMMON + _POSTGRESQL),
    "redshift": listed(_COMMON + _POSTGRESQL + _REDSHIFT),
    "mysql": listed(_COMMON + _MYSQL),
    "sqlite": listed(_COMMON + _SQLITE),
    "sqlserver": listed(_COMMON + _SQLSERVER),
    "oracle": listed(_COMMON + _ORACLE),
}
