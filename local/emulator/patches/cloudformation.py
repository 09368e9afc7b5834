"""CloudFormation: names that are taken, deletion protection, and interrupted stacks.

In MiniStack, a second stack takes over the first stack's role, table or queue of the same name. Deleting the
second stack then deletes the resource, which the first stack still needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local.emulator.reach import Cloud, hook, put, replace, touch

HANDLERS = "services.cloudformation.provisioners._RESOURCE_HANDLERS"


@dataclass(frozen=True)
class Named:
    """For a resource type: the property with the physical name, and MiniStack's store of the type's
    resources."""

    property: str
    store: str
    key: Callable[[str], str] = str
    """Converts a physical name to its key in the store, or to the end of that key"""

    def exists(self, name: str) -> bool:
        wanted = self.key(name)
        whole = wanted == name
        return any(key == wanted or (not whole and key.endswith(wanted)) for key in touch(self.store))


NAMED: Mapping[str, Named] = {
    "AWS::CloudWatch::Alarm": Named("AlarmName", "services.cloudwatch._alarms"),
    "AWS::DynamoDB::Table": Named("TableName", "services.dynamodb._tables"),
    "AWS::ECR::Repository": Named("RepositoryName", "services.ecr._repositories"),
    "AWS::Events::Rule": Named("Name", "services.eventbridge._rules", "|{}".format),
    "AWS::IAM::ManagedPolicy": Named("ManagedPolicyName", "services.iam._policies", "/{}".format),
    "AWS::IAM::Role": Named("RoleName", "services.iam._roles"),
    "AWS::IAM::User": Named("UserName", "services.iam._users"),
    "AWS::KMS::Alias": Named("AliasName", "services.kms._aliases", ":{}".format),
    "AWS::Lambda::Function": Named("FunctionName", "services.lambda_svc._functions"),
    "AWS::Logs::LogGroup": Named("LogGroupName", "services.cloudwatch_logs._log_groups"),
    "AWS::SecretsManager::Secret": Named("Name", "services.secretsmanager._secrets"),
    "AWS::SNS::Topic": Named("TopicName", "services.sns._topics", ":{}".format),
    "AWS::SQS::Queue": Named("QueueName", "services.sqs._queue_name_to_url"),
    "AWS::SSM::Parameter": Named("Name", "services.ssm._parameters"),
    "AWS::StepFunctions::StateMachine": Named(
        "StateMachineName", "services.stepfunctions._state_machines", ":{}".format
    ),
}
"""Resource types whose names must be unique, which MiniStack does not check. MiniStack itself checks the
names of S3 buckets, and the local SageMaker checks the names of its resources."""

TABLE_PROTECTED = (
    "Resource cannot be deleted as it is currently protected against deletion."  # DynamoDB's message
    " Disable deletion protection first."
)
POOL_PROTECTED = (
    "The user pool cannot be deleted because deletion protection is activated. Deletion protection must be"
    " inactivated first."
)


@hook
def a_physical_name_has_one_owner(cloud: Cloud) -> None:
    """In MiniStack, creating a resource whose physical name is taken adopts the existing resource. On AWS,
    the creation fails with AlreadyExists."""
    handlers = touch(HANDLERS)
    for type_name, named in NAMED.items():
        touch(named.store)
        create = handlers[type_name]["create"]

        @functools.wraps(create)
        def refusing(
            logical_id: str,
            properties: dict,
            *rest: Any,
            create: Callable = create,
            type_name: str = type_name,
            named: Named = named,
        ) -> Any:
            name = properties.get(named.property)
            if isinstance(name, str) and name and named.exists(name):
                raise ValueError(
                    f"Resource of type '{type_name}' with identifier '{name}' already exists."
                    " (HandlerErrorCode: AlreadyExists)"
                )
            return create(logical_id, properties, *rest)

        put(HANDLERS, type_name, "create", value=refusing)


@hook
def protected_data_is_not_deleted(cloud: Cloud) -> None:
    """In MiniStack, deleting a stack deletes its tables and user pools despite deletion protection, and
    DeleteUserPool deletes a protected user pool."""
    handlers = touch(HANDLERS)
    tables, pools = touch("services.dynamodb._tables"), touch("services.cognito._user_pools")

    def guard(type_name: str, refusal: Callable[[str], Iterator[str]]) -> None:
        delete = handlers[type_name]["delete"]

        @functools.wraps(delete)
        def guarded(physical_id: str, *rest: Any) -> Any:
            for reason in refusal(physical_id):
                raise ValueError(reason)
            return delete(physical_id, *rest)

        put(HANDLERS, type_name, "delete", value=guarded)

    def of_table(name: str) -> Iterator[str]:
        # Templates may have booleans as text
        if str((tables.get(name) or {}).get("DeletionProtectionEnabled", False)).lower() == "true":
            yield TABLE_PROTECTED

    def of_pool(pool: str) -> Iterator[str]:
        if (pools.get(pool) or {}).get("DeletionProtection") == "ACTIVE":
            yield POOL_PROTECTED

    guard("AWS::DynamoDB::Table", of_table)
    guard("AWS::Cognito::UserPool", of_pool)
    error = touch("core.responses.error_response_json", "code", "message", "status")

    @replace("services.cognito._delete_user_pool", "data")
    def delete_pool(original: Callable, data: dict) -> Any:
        for reason in of_pool(data.get("UserPoolId", "")):
            return error("InvalidParameterException", reason, 400)
        return original(data)


UNFINISHED = {
    "CREATE": "ROLLBACK_FAILED",
    "ROLLBACK": "ROLLBACK_FAILED",
    "UPDATE": "UPDATE_ROLLBACK_COMPLETE",
    "UPDATE_ROLLBACK": "UPDATE_ROLLBACK_COMPLETE",
    "DELETE": "DELETE_FAILED",
    "IMPORT": "IMPORT_ROLLBACK_COMPLETE",
    "IMPORT_ROLLBACK": "IMPORT_ROLLBACK_COMPLETE",
}
"""Status that an interrupted stack gets, by the interrupted operation. From these statuses, the next `cdk
deploy` continues without asking. From CREATE_FAILED and UPDATE_FAILED, which are for --no-rollback, the CDK
asks the user first."""


@hook
def unfinished_stacks_end(cloud: Cloud) -> None:
    """Without this hook, a stack that was being changed when the server ended would stay IN_PROGRESS
    forever."""

    @replace("services.cloudformation.load_persisted_state", "data")
    def load(original: Callable, data: dict) -> None:
        original(data)
        for stack in touch("services.cloudformation._stacks").all_values():
            begun, in_progress, _ = stack.get("StackStatus", "").partition("_IN_PROGRESS")
            if in_progress and begun != "REVIEW":
                # After COMPLETE, only the cleanup of old resources was left
                done = begun.removesuffix("_CLEANUP") if begun.endswith("_COMPLETE_CLEANUP") else None
                stack["StackStatus"] = done or UNFINISHED[begun]
                stack["StackStatusReason"] = "The local cloud ended while the stack was being changed"
                cloud.cut_off(stack)
