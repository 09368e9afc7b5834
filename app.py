"""The CDK app: reads the settings, adds one stack per architecture, plugs the rule packs in."""

from __future__ import annotations

import sys

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from settings import Settings, SettingsError, load
from stacks.personalization import LayerMissing, PersonalizationStack
from stacks.snowflake_training import SnowflakeTrainingStack


def build(app: App, settings: Settings) -> None:
    """Add every architecture, in the environment that the settings are of."""
    SnowflakeTrainingStack(
        app,
        f"groundplan-{settings.env}-snowflake-training",
        env_name=settings.env,
        settings=settings.snowflake_training,
    )
    PersonalizationStack(
        app,
        f"groundplan-{settings.env}-personalization",
        env_name=settings.env,
        settings=settings.personalization,
    )
    Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))


def main() -> None:
    app = App()
    try:
        settings = load(app.node.get_all_context())
        build(app, settings)
    except (SettingsError, LayerMissing) as error:
        sys.exit(str(error))
    app.synth()


if __name__ == "__main__":
    main()
