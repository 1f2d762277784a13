//! The lists of promises.

/// Tests what every [`ContainerRuntime`](crate::ContainerRuntime) promises. Takes an
/// expression for a future of a [`Fixture`](crate::testing::Fixture) and attributes for the tests.
#[macro_export]
macro_rules! runtime_conformance {
    ($fixture:expr $(, #[$attr:meta])*) => {
        $crate::__conformance! { [$(#[$attr])*] $fixture, runtime,
            a_sandbox_is_ready_and_has_an_address
            a_sandbox_on_the_nodes_network_has_no_address
            two_sandboxes_have_different_addresses
            the_same_attempt_of_a_pod_is_refused_a_second_time
            a_runtime_handler_that_is_not_there_is_refused
            a_configuration_comes_back_unchanged
            what_is_not_there_is_not_found
            stopping_and_removing_are_idempotent
            a_stopped_sandbox_is_not_ready_and_takes_no_containers
            removing_a_sandbox_removes_its_containers
            a_container_is_created_then_running_then_exited
            the_same_attempt_of_a_container_is_refused_a_second_time
            a_container_is_started_once
            a_container_needs_an_image_that_is_there
            stopping_a_sandbox_ends_its_containers
            lists_and_single_answers_agree
            events_tell_of_starts_and_ends
            what_does_not_run_refuses_exec_attach_and_stats
        }
    };
}

/// Tests what a [`ContainerRuntime`](crate::ContainerRuntime) promises that runs processes. The
/// fixture's image must have busybox's commands.
#[macro_export]
macro_rules! process_conformance {
    ($fixture:expr $(, #[$attr:meta])*) => {
        $crate::__conformance! { [$(#[$attr])*] $fixture, process,
            an_exit_code_is_kept
            a_signals_number_is_added_to_128
            output_goes_to_the_log_in_cri_format
            a_log_that_was_moved_away_is_started_anew
            a_log_stays_when_its_container_is_removed
            asking_to_end_comes_before_killing
            a_deaf_container_is_killed_after_its_grace
            a_command_that_is_not_there_fails_the_start
            the_environment_arguments_and_directory_arrive
            the_user_is_the_one_that_was_asked_for
            a_read_only_mount_can_not_be_written
            host_name_and_resolver_are_the_pods
            containers_of_a_pod_share_network_but_not_processes
            a_shared_process_namespace_is_shared
            pods_reach_each_other
            privileges_are_limited_by_default
            too_much_memory_is_punished
            exec_sync_gives_output_and_code
            exec_sync_ends_at_its_timeout
            exec_of_a_missing_command_is_an_error
            exec_streams_input_and_output
            exec_with_a_terminal_has_one
            dropping_an_exec_kills_it
            a_stop_right_after_the_start_is_not_the_end_of_the_runtime
            attach_joins_the_streams
            an_attached_session_ends_with_its_input_where_others_may_follow
            attach_to_a_terminal_reaches_it
            a_port_of_a_pod_can_be_reached
            stats_show_use
            what_is_written_outside_of_mounts_is_counted
        }
    };
}

/// Tests what every [`ImageService`](crate::ImageService) promises.
#[macro_export]
macro_rules! image_conformance {
    ($fixture:expr $(, #[$attr:meta])*) => {
        $crate::__conformance! { [$(#[$attr])*] $fixture, image,
            an_image_is_found_by_each_of_its_names
            an_image_that_is_not_there_is_none
            a_bad_reference_is_refused
            removing_an_image_is_idempotent
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance {
    ($attrs:tt $fixture:expr, $module:ident, $($name:ident)*) => {
        $($crate::__conformance_test! { $attrs $fixture, $module, $name })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ([$($attr:tt)*] $fixture:expr, $module:ident, $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attr)*
        async fn $name() {
            $crate::testing::run($fixture.await, async |f| $crate::testing::$module::$name(f).await).await;
        }
    };
}
