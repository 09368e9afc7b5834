"""The demonstration: every architecture deployed to a cloud on this machine and run end to end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One architecture of the demonstration.

    `scenario` is the module with `METRICS` and `run`, and with `prepare` where something has to be there
    before the stack is deployed; `needs` are the environments that it uses
    besides those of the demonstration itself.
    """

    name: str
    title: str
    sentence: str
    scenario: str
    needs: tuple[str, ...] = ()

    def stack(self, environment: str) -> str:
        """The name of its stack in an environment such as `dev`."""
        return f"groundplan-{environment}-{self.name.replace('_', '-')}"


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="snowflake_training",
            title="Train straight from Snowflake",
            sentence="Several hosts pull disjoint parts of a Snowflake table and train one XGBoost model "
            "together; a state machine puts it behind a serverless endpoint when it beats the one there.",
            scenario="scenarios.snowflake_training",
            needs=("benchmarks",),
        ),
        Architecture(
            name="personalization",
            title="A model for every user",
            sentence="People upload pictures; their fine-tunes are packed into training jobs, and thousands "
            "of adapters share one multi-model endpoint on Triton, where one base is resident.",
            scenario="scenarios.personalization.steps",
            needs=("personalization",),
        ),
    )
}
