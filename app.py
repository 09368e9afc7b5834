"""The CDK app: loads the settings, adds a stack for each chosen architecture, and adds the cdk-nag rules."""

from __future__ import annotations

import sys

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

import architectures
from groundplan import NameTooLongError
from settings import Settings, SettingsError, load
from stacks.shared import LayerMissingError


def build(app: App, settings: Settings) -> None:
    """Add a stack for each architecture in the settings, and the cdk-nag rules."""
    for each in architectures.ALL:
        if each.name in settings.only:
            stack, chosen = architectures.load(each.stack), getattr(settings, each.name)
            stack(app, each.stack_name(settings.env), env_name=settings.env, settings=chosen)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))


def main() -> None:
    app = App()
    try:
        settings = load(app.node.get_all_context())
        build(app, settings)
    except (SettingsError, LayerMissingError, NameTooLongError) as error:
        sys.exit(str(error))
    app.synth()


if __name__ == "__main__":
    main()
