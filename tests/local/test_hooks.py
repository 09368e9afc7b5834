"""Each hook applies to MiniStack, and the error names the hook if MiniStack has changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

HOOKS = [
    "sagemaker_service",
    "sagemaker_resource_types",
    "absent_image_is_an_error",
    "functions_act_under_their_role",
    "functions_fail_by_their_own_exception",
    "layers_are_unpacked_once",
    "functions_keep_what_their_template_says",
    "an_account_keeps_concurrency_unreserved",
    "failed_events_reach_the_dead_letter_queue_as_they_came",
    "invalid_answers_fail_a_queues_batch",
    "a_functions_writes_are_numbered",
    "invocations_have_a_largest_size",
    "the_loopback_is_a_secure_transport",
    "resources_of_some_actions",
    "attached_policies_exist",
    "metrics_are_held_to_a_namespace",
    "executions",
    "callbacks_send_heartbeats",
    "execution_metrics",
    "tasks_call_sagemaker",
    "tasks_act_under_the_machines_role",
    "alarms_are_judged_as_aws_does",
    "metric_filters_count",
    "scaling_service",
    "named_queries_are_resources",
    "queries_read_tables_alone",
    "views_are_their_query",
    "partitions_are_projected",
    "price_list_service",
    "secrets_are_referred_to_by_arn",
    "viewers_use_https",
    "distributions_reach_apis",
    "edges_keep_errors",
    "streams_outlive_the_server",
    "streams_are_delivered_as_lambda_does",
    "calls_are_signed",
    "only_issued_keys_are_known",
    "iam_routes_want_a_signature",
    "downloads_have_presigned_addresses",
    "objects_that_cannot_be_written_are_errors",
    "tasks_fail_where_nothing_can_be_written",
    "stacks_are_saved_as_they_change",
    "created_types_are_recorded",
    "a_physical_name_has_one_owner",
    "protected_data_is_not_deleted",
    "unfinished_stacks_end",
    "conditions_join_texts",
    "events_are_tried_again",
    "targets_are_served",
    "schedules_act_under_their_role",
    "targets_allow_deliveries",
    "sdk_tasks_have_types",
    "definitions_are_checked",
    "executions_start_once",
    "states_have_a_largest_size",
    "jsonata_makes_every_output",
    "jsonata_selects_items",
    "jsonata_makes_timeouts",
    "executions_go_on_after_a_restart",
    "branches_have_a_history",
]
INSTALL = """
import sys
from local.emulator import reach
moved = sys.argv[1:]
touched = set()
real = reach.touch
def touch(name, *parameters):
    touched.add(name)
    if name in moved:
        name += "_that_was_renamed"
    return real(name, *parameters)
reach.touch = touch
import local.emulator.patches
try:
    reach.install(None)
    for each in sorted(touched):
        print(each)
except reach.MovedError as error:
    print("MOVED", error)
"""

UNDO = """
import contextlib, importlib, logging, pkgutil, sys, types
import ministack
from local.emulator import reach
import local.emulator.patches

for module in list(pkgutil.walk_packages(ministack.__path__, "ministack.")):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)

def kept(value, depth=3):
    if isinstance(value, dict) and depth:
        return {key: kept(each, depth - 1) for key, each in value.items()}
    if isinstance(value, logging.Logger):
        return list(value.filters)
    return id(value)

def attributes():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("ministack")]
    return {f"{m.__name__}.{name}": value for m in modules for name, value in vars(m).items()
            if not name.startswith("__")}

def state():
    return {name: kept(value) for name, value in attributes().items()}

def different(one, other):
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}

for _ in range(2):
    before = state()
    reach.install(None)
    changed, places = different(before, state()), {f"ministack.{change.place}" for change in reach.CHANGES}
    hooks = {change.hook for change in reach.CHANGES}
    listed = {name for name in changed if any(f"{place}.".startswith(f"{name}.") for place in places)}
    objects = {id(attributes()[name]) for name in listed}  # other modules may have other names for them
    print("changed", len(changed) > 50)
    print("unlisted", *sorted(name for name in changed if id(attributes()[name]) not in objects))
    print("idle", *sorted(reach.HOOKS.keys() - hooks))
    reach.undo()
    print("left", *sorted(different(before, state())), len(reach.CHANGES))

reach.HOOKS["moved"] = lambda cloud: reach.touch("nowhere.at_all")
with contextlib.suppress(reach.MovedError):
    reach.install(None)
print("left", *sorted(different(before, state())), len(reach.CHANGES))
"""


def test_every_hook_applies_to_the_pinned_ministack(in_the_clouds_environment: Callable) -> None:
    # when all hooks are installed; then no target is missing, and the list `HOOKS` is complete
    assert "MOVED" not in in_the_clouds_environment(INSTALL).stdout
    program = "import local.emulator.patches; from local.emulator import reach; print(*reach.HOOKS)"
    found = in_the_clouds_environment(program).stdout
    assert found.split() == HOOKS


@pytest.mark.parametrize(
    ("hook", "place"),
    [
        ("sagemaker_service", "core.router.SERVICE_PATTERNS"),
        ("absent_image_is_an_error", "services.ecr._describe_images"),
        ("functions_act_under_their_role", "core.lambda_runtime.execution_credentials"),
        ("the_loopback_is_a_secure_transport", "app.pin_request_origin"),
        ("resources_of_some_actions", "core.iam_actions.extract_resource_arn"),
        ("executions", "services.stepfunctions._run_execution"),
        ("execution_metrics", "services.cloudwatch.record_metric"),
        ("alarms_are_judged_as_aws_does", "services.cloudwatch._evaluate_alarm"),
        ("tasks_call_sagemaker", "services.stepfunctions._invoke_aws_sdk_integration"),
        ("tasks_act_under_the_machines_role", "app.call_service_handler_sync"),
        ("sagemaker_resource_types", "services.cloudformation.provisioners._RESOURCE_HANDLERS"),
        ("scaling_service", "services.cloudwatch._metrics"),
        ("secrets_are_referred_to_by_arn", "services.secretsmanager._secrets"),
        ("unfinished_stacks_end", "services.cloudformation.load_persisted_state"),
        ("viewers_use_https", "services.cloudfront._check_viewer_protocol_policy"),
        ("distributions_reach_apis", "services.cloudfront._fetch_from_origin"),
        ("functions_fail_by_their_own_exception", "services.lambda_svc._execute_function_warm"),
        ("layers_are_unpacked_once", "core.lambda_runtime.zipfile"),
        ("functions_keep_what_their_template_says", "services.lambda_svc._functions"),
        ("an_account_keeps_concurrency_unreserved", "services.lambda_svc._put_function_concurrency"),
        (
            "failed_events_reach_the_dead_letter_queue_as_they_came",
            "services.lambda_svc._route_async_failure",
        ),
        ("events_are_tried_again", "services.eventbridge._dispatch_to_lambda"),
        ("streams_outlive_the_server", "services.dynamodb._stream_records"),
        ("streams_are_delivered_as_lambda_does", "services.lambda_svc._poll_dynamodb_streams"),
        ("a_functions_writes_are_numbered", "services.lambda_svc.acquire_worker"),
        ("calls_are_signed", "core.iam_evaluator.resolve_credential"),
        ("only_issued_keys_are_known", "core.iam_evaluator.is_root_access_key"),
        ("iam_routes_want_a_signature", "app._enforce_execute_api"),
        ("downloads_have_presigned_addresses", "services.lambda_svc._presigned_code_url"),
        ("objects_that_cannot_be_written_are_errors", "services.s3._persist_object"),
        ("stacks_are_saved_as_they_change", "services.cloudformation.stacks._add_event"),
        ("created_types_are_recorded", "services.cloudformation.stacks._provision_resource"),
        ("protected_data_is_not_deleted", "services.cognito._delete_user_pool"),
        ("conditions_join_texts", "services.cloudformation.changesets._evaluate_conditions"),
        ("targets_are_served", "services.eventbridge._put_targets"),
        (
            "invocations_have_a_largest_size",
            "services.lambda_svc.lambda_execute_result_to_api_proxy_response",
        ),
        ("attached_policies_exist", "services.iam.attach_managed_policy"),
        ("metrics_are_held_to_a_namespace", "core.iam_actions.request_tag_context"),
        ("sdk_tasks_have_types", "services.stepfunctions._dispatch_aws_sdk_query"),
        ("definitions_are_checked", "services.stepfunctions._validate_state_machine_definition"),
        ("executions_start_once", "services.stepfunctions._start_sync_execution"),
        ("states_have_a_largest_size", "services.stepfunctions._error_matches"),
        ("jsonata_makes_every_output", "services.stepfunctions._run_parallel_branches"),
        ("executions_go_on_after_a_restart", "services.stepfunctions.load_persisted_state"),
        ("branches_have_a_history", "services.stepfunctions._run_sub_machine"),
    ],
)
def test_hook_whose_target_is_missing_is_named(
    hook: str, place: str, in_the_clouds_environment: Callable
) -> None:
    # given a MiniStack in which the target of a hook has another name; then the start fails, and the error
    # names the hook
    said = in_the_clouds_environment(INSTALL, place).stdout
    assert said.startswith(f"MOVED hook '{hook}': MiniStack has no {place}"), said


def test_hook_whose_target_has_other_arguments_is_named(in_the_clouds_environment: Callable) -> None:
    # given a MiniStack in which a parameter of a patched function has another name
    program = "import ministack.services.ecr as ecr\necr._describe_images = lambda request: None\n" + INSTALL
    said = in_the_clouds_environment(program).stdout
    assert "hook 'absent_image_is_an_error'" in said
    assert "takes (request), not (data)" in said


def test_all_changes_are_listed_and_can_be_undone(in_the_clouds_environment: Callable) -> None:
    # when all hooks are installed and undone, twice, and then an installation fails in its last hook
    said = in_the_clouds_environment(UNDO).stdout.splitlines()
    # then each change was listed, only the hook that checks targets changed nothing, and MiniStack is
    # unchanged
    assert said == [*["changed True", "unlisted", "idle calls_are_signed", "left 0"] * 2, "left 0"]
