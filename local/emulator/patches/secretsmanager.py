"""Secrets Manager: references in templates."""

from __future__ import annotations

from local.emulator.reach import Cloud, hook, put, touch


@hook
def secrets_are_referred_to_by_arn(cloud: Cloud) -> None:
    """In MiniStack, `Ref` of a secret returns its name. On AWS, `Ref` returns the ARN, which policies
    need."""
    place = "services.cloudformation.provisioners._RESOURCE_HANDLERS"
    handlers = touch(place)["AWS::SecretsManager::Secret"]
    secrets_of = touch("services.secretsmanager._secrets")
    create, update, delete = (handlers[key] for key in ("create", "update", "delete"))

    def arn(made: tuple[str, dict]) -> tuple[str, dict]:
        name, attributes = made
        return secrets_of[name]["ARN"], attributes

    def name(reference: str) -> str:
        return next((each for each, secret in secrets_of.items() if secret["ARN"] == reference), reference)

    changed = {
        "create": lambda *given: arn(create(*given)),
        "update": lambda reference, *given: arn(update(name(reference), *given)),
        "delete": lambda reference, *given: delete(name(reference), *given),
    }
    for operation, function in changed.items():
        put(place, "AWS::SecretsManager::Secret", operation, value=function)
