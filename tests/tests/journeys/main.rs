//! Whole journeys: what a user does, with real servers, in one file each.

mod a_repository_that_lost_packs;
mod adopting_a_clone;
mod archive_command_checks_what_it_takes;
mod archive_command_is_durable;
mod archive_command_knows_its_cluster;
mod archive_command_refuses_other_content;
mod check_and_init;
mod commands;
mod commands_keep_secrets;
mod commands_on_s3;
mod expiring;
mod killed_backups_and_restores;
mod rescue_without_highwater;
mod restore_after_a_failover;
mod restore_command_delivers_whole_files;
mod restore_command_never_loses_rows;
mod restore_command_serves_standbys;
mod restore_to_a_moment;
mod restore_with_keys_apart;
mod restores;
mod restores_are_proven_first;
mod something_is_gone;
mod the_dropped_table_comes_back;
mod the_log_tells_what_happened;
mod verify_what_is_kept;
mod what_the_archive_tells;
