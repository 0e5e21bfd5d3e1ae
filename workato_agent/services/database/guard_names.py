"""Functions that do more than compute, and those of a doubtful family that don't.

PostgreSQL's are the volatile functions of ``pg_catalog`` in version 15 and those of its contributed
extensions; ``nextval`` and ``setval`` are here although the server refuses them too.
"""

from __future__ import annotations

from typing import Final


def listed(names: str) -> frozenset[str]:
    """The names in a text, with white space between them."""
    return frozenset(names.split())


POSTGRESQL_ACTIONS: Final = listed(
    """
    binary_upgrade_create_empty_extension binary_upgrade_set_missing_value
    binary_upgrade_set_record_init_privs
    brin_desummarize_range brin_summarize_new_values brin_summarize_range
    cursor_to_xml cursor_to_xmlschema database_to_xml database_to_xml_and_xmlschema
    dblink dblink_build_sql_delete dblink_build_sql_insert dblink_build_sql_update
    dblink_cancel_query dblink_close dblink_connect dblink_connect_u dblink_disconnect dblink_exec
    dblink_fetch dblink_get_connections dblink_get_notify dblink_get_result dblink_open
    dblink_send_query
    gin_clean_pending_list lo_close lo_creat lo_create lo_export lo_from_bytea lo_import
    lo_lseek lo_lseek64 lo_open lo_put lo_truncate lo_truncate64 lo_unlink loread lowrite lo_manage
    nextval setval setseed set_config
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
    pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared
    pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_cancel_backend
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_create_restore_point pg_current_logfile pg_current_xact_id txid_current
    pg_drop_replication_slot
    pg_export_snapshot pg_extension_config_dump pg_file_read pg_file_rename pg_file_sync
    pg_file_unlink pg_file_write pg_import_system_collations pg_log_backend_memory_contexts
    pg_logdir_ls pg_logical_emit_message pg_logical_slot_get_binary_changes
    pg_logical_slot_get_changes pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes
    pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir
    pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir pg_nextoid pg_notify pg_promote
    pg_prewarm autoprewarm_dump_now autoprewarm_start_worker
    pg_read_binary_file pg_read_file pg_read_file_old pg_reload_conf
    pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop
    pg_replication_origin_session_reset pg_replication_origin_session_setup
    pg_replication_origin_xact_reset pg_replication_origin_xact_setup pg_replication_slot_advance
    pg_rotate_logfile pg_rotate_logfile_old pg_stat_clear_snapshot pg_stat_file
    pg_stat_force_next_flush pg_stat_reset pg_stat_reset_replication_slot pg_stat_reset_shared
    pg_stat_reset_single_function_counters pg_stat_reset_single_table_counters pg_stat_reset_slru
    pg_stat_reset_subscription_stats pg_stat_statements_reset pg_stop_making_pinned_objects
    pg_switch_wal pg_switch_xlog pg_sync_replication_slots pg_terminate_backend
    pg_truncate_visibility_map
    pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared pg_wal_replay_pause pg_wal_replay_resume
    postgres_fdw_disconnect postgres_fdw_disconnect_all
    query_to_xml query_to_xml_and_xmlschema query_to_xmlschema schema_to_xml
    schema_to_xml_and_xmlschema table_to_xml table_to_xml_and_xmlschema ts_rewrite ts_stat
    xpath_table crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby
    """
)

POSTGRESQL_HARMLESS: Final = listed(
    """
    pg_available_extension_versions pg_available_extensions pg_backend_pid pg_blocking_pids
    pg_char_to_encoding pg_client_encoding pg_collation_for pg_collation_is_visible
    pg_column_compression pg_column_size pg_conf_load_time pg_current_snapshot
    pg_current_xact_id_if_assigned pg_database_size pg_describe_object pg_encoding_to_char
    pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_function_arguments
    pg_get_function_identity_arguments pg_get_function_result pg_get_functiondef pg_get_indexdef
    pg_get_keywords pg_get_partition_constraintdef pg_get_partkeydef pg_get_ruledef
    pg_get_serial_sequence pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role
    pg_identify_object pg_index_column_has_property pg_index_has_property pg_indexam_has_property
    pg_indexes_size pg_is_in_recovery pg_is_other_temp_schema pg_is_wal_replay_paused
    pg_jit_available pg_last_xact_replay_timestamp pg_lock_status pg_lsn pg_my_temp_schema
    pg_opclass_is_visible pg_operator_is_visible pg_options_to_table pg_partition_ancestors
    pg_partition_root pg_partition_tree pg_postmaster_start_time pg_relation_filenode
    pg_relation_is_publishable pg_relation_is_updatable pg_column_is_updatable pg_relation_size
    pg_sequence_last_value pg_sequence_parameters pg_settings_get_flags pg_show_all_settings
    pg_size_bytes pg_size_pretty pg_sleep pg_sleep_for pg_sleep_until pg_snapshot_xip
    pg_snapshot_xmax pg_snapshot_xmin pg_stat_get_activity pg_table_is_visible pg_table_size
    pg_tablespace_databases pg_tablespace_location pg_tablespace_size pg_timezone_abbrevs
    pg_timezone_names pg_total_relation_size pg_trigger_depth pg_type_is_visible pg_typeof
    pg_visible_in_snapshot pg_wal_lsn_diff pg_xact_commit_timestamp pg_xact_status
    lo_get lo_tell lo_tell64
    """
)

MYSQL_ACTIONS: Final = listed(
    """
    get_lock release_lock release_all_locks is_used_lock is_free_lock load_file benchmark
    master_pos_wait master_gtid_wait source_pos_wait wait_for_executed_gtid_set
    wait_until_sql_thread_after_gtids nextval setval lastval
    service_get_read_locks service_get_write_locks service_release_locks
    sys_eval sys_exec sys_get sys_set lib_mysqludf_sys_info
    ps_kill asynchronous_connection_failover_add_source asynchronous_connection_failover_reset
    group_replication_set_as_primary group_replication_switch_to_single_primary_mode
    group_replication_switch_to_multi_primary_mode spider_direct_sql spider_bg_direct_sql
    spider_copy_tables spider_flush_table_mon_cache http_get http_post
    keyring_key_generate keyring_key_remove keyring_key_store
    """
)

SQLITE_ACTIONS: Final = frozenset(
    ("load_extension", "writefile", "edit", "fts3_tokenizer", "sqlite_rename_column",
     "sqlite_rename_table", "sqlite_rename_test", "sqlite_attach", "sqlite_detach")
)  # fmt: skip

ORACLE_HARMLESS: Final = frozenset(
    ("dbms_lob", "dbms_metadata", "dbms_random", "utl_encode", "utl_i18n", "utl_match", "utl_raw")
)
"""Packages."""

UNKNOWN_ACTIONS: Final = (
    POSTGRESQL_ACTIONS
    | MYSQL_ACTIONS
    | SQLITE_ACTIONS
    | listed(
        """
        csvwrite csvread file_read file_write link_schema memory_free set_database
        httpuritype dburitype xdburitype currval
        """
    )
)
