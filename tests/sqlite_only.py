"""What is tested on SQLite alone: a file or one test of it, and why.

With ``COINSLOT_TEST_ENGINE=postgres`` these are skipped, and nothing else is.
"""

FILES = "it damages, copies, moves or measures the database file itself"
KEY_FILE = "PostgreSQL takes the master key from the environment, never from a file"
PLANS = "it reads SQLite's plans or counts what it prepares"

SQLITE_ONLY = {
    "access/test_vault.py::test_a_fresh_installation_gets_a_key_of_its_own": KEY_FILE,
    "access/test_vault.py::test_the_environments_key_is_used_instead_of_the_file": KEY_FILE,
    "access/test_vault.py::TestRotation::test_everything_is_under_the_new_key_and_the_old_file_is_kept": KEY_FILE,
    "access/test_vault.py::TestRotation::test_a_running_process_follows_without_a_restart": KEY_FILE,
    "access/test_vault.py::TestRotation::test_a_crash_before_the_commit_leaves_the_old_key_in_force": KEY_FILE,
    "access/test_vault.py::TestRotation::test_a_crash_after_the_commit_leaves_the_new_key_readable": KEY_FILE,
    "chaos/test_judge.py": "the judge reads the file by itself, with no line of Coinslot",
    "chaos/test_scenes.py": "the judge reads the file by itself, with no line of Coinslot",
    "commands/test_as_root.py": "it is about who owns the files that commands make",
    "commands/test_commands.py::test_a_damaged_file_is_told_in_words": FILES,
    "commands/test_commands.py::test_key_rotate_after_a_crash_after_the_commit": KEY_FILE,
    "commands/test_commands.py::test_key_rotate_after_a_crash_before_the_commit": KEY_FILE,
    "commands/test_commands.py::test_key_rotate_puts_everything_under_a_new_key": KEY_FILE,
    "commands/test_commands.py::test_simulate_from_a_copy_with_another_key_is_a_surprise": FILES,
    "commands/test_demo.py": "a demo is a SQLite file of its own",
    "dashboard/test_account.py::TestMasterKey::test_it_is_rotated_after_the_password_and_everything_still_opens": (
        KEY_FILE
    ),
    "dashboard/test_activity.py::test_it_asks_little_of_the_database_and_only_by_index": PLANS,
    "dashboard/test_dashboard.py::test_it_is_ready_only_with_a_database_that_can_be_written": FILES,
    "dashboard/test_deliveries.py::TestList::test_lists_are_read_by_their_index": PLANS,
    "dashboard/test_overview.py::TestTroubles::test_every_search_uses_an_index": PLANS,
    "dashboard/test_payments.py::TestList::test_lists_are_read_by_their_index": PLANS,
    "dashboard/test_settlements.py::test_a_list_of_differences_reads_no_more_than_it_shows": PLANS,
    "dashboard/test_transactions.py::test_every_question_of_these_pages_is_answered_by_an_index": PLANS,
    "dashboard/test_integration.py::test_the_newest_credit_is_found_by_an_index": PLANS,
    "dashboard/test_transactions.py::TestList::test_an_export_holds_no_old_state_of_the_database_while_it_is_read": (
        FILES
    ),
    "ledger/test_credit.py::test_no_statement_of_a_credit_is_prepared_anew": PLANS,
    "operations/test_backup_files.py": FILES,
    "operations/test_doctor.py::test_database_that_cannot_be_used": FILES,
    "operations/test_doctor.py::test_nothing_is_made_where_nothing_is": FILES,
    "operations/test_doctor.py::test_malformed_key_file": KEY_FILE,
    "operations/test_doctor.py::test_leftover_of_a_key_rotation": KEY_FILE,
    "operations/test_doctor.py::test_open_permissions": FILES,
    "operations/test_doctor.py::test_file_of_another_user": KEY_FILE,
    "operations/test_doctor.py::test_full_disk": FILES,
    "operations/test_follower.py": "Litestream copies SQLite files",
    "operations/test_forgetting.py::test_deleted_content_leaves_the_pages_of_every_connection": FILES,
    "operations/test_forgetting.py::test_the_wal_is_cut_once_its_readers_let_go": FILES,
    "operations/test_forgetting.py::TestRestore::"
    "test_a_database_that_is_lost_or_damaged_takes_nobody_out_of_the_list": FILES,
    "operations/test_search.py::test_every_question_is_answered_by_an_index": PLANS,
    "relay/test_jobs.py::TestARelay::test_schedules_are_looked_up_only_after_a_commit": (
        "news of a commit comes a moment later on PostgreSQL"
    ),
    "outbox/test_deliveries.py::TestLooking::test_what_the_relay_asks_all_the_time_has_an_index": PLANS,
    "operations/test_backup_postgres.py": "it is about PostgreSQL, whichever the others run on",
    "operations/test_moving.py": "it moves between both engines, whichever the others run on",
    "playcamp/test_payments.py::test_the_query_reads_by_an_index": PLANS,
    "server/test_follower.py": "Litestream copies SQLite files",
    "server/test_durable.py": "it watches the system calls that put the WAL on the disk",
    "server/test_readiness.py": FILES,
    "server/test_server.py::TestStart::test_a_file_that_is_no_database_is_refused_and_left_alone": FILES,
    "server/test_server.py::TestStart::test_another_key_file_is_refused": KEY_FILE,
    "server/test_server.py::TestStart::test_a_missing_key_file_is_refused_and_not_made_anew": KEY_FILE,
    "server/test_server.py::TestChangesByAnotherProcess::test_a_rotated_master_key_holds_from_the_next_request": (
        KEY_FILE
    ),
    "server/test_upgrade.py": "deploy/upgrade is for SQLite alone, and refuses PostgreSQL",
    "store/test_checkpoints.py": "PostgreSQL makes its own checkpoints",
    "store/test_db.py": "the engine itself; PostgreSQL's has tests of its own",
    "store/test_lock.py": "the lock file of one machine",
}


def reason(node_id: str) -> str | None:
    """Why pytest's ``tests/FILE.py::Class::test[values]`` is for SQLite alone; None where it is for both engines."""
    file, _, name = node_id.removeprefix("tests/").partition("::")
    return SQLITE_ONLY.get(file) or SQLITE_ONLY.get(f"{file}::{name.partition('[')[0]}")
