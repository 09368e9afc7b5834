"""Learn to trade under constraints, and serve orders that keep them."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_logs as logs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from groundplan import LeftRunning, Metric, allow, dead_letters
from settings.portfolio_rl import PortfolioRl
from stacks.models import ModelParts
from stacks.shared import CONTAINERS, docker_image

NAME = "portfolio_rl"
INPUTS = "inputs"
"""Folder of the bucket for users' own rules and prices."""


class PortfolioRlStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: PortfolioRl) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: orders under constraints, by a policy that is served when it is better",
        )
        parts = ModelParts(
            self,
            settings,
            architecture=NAME,
            env_name=env_name,
            model="Trading policies under constraints",
            vpc_id=settings.vpc_id,
            audited=True,
        )
        parts.bucket.grant_read(parts.training_role.role, INPUTS)
        switch = ssm.StringParameter(
            self,
            "StopSwitch",
            parameter_name=f"/groundplan/{parts.endpoint_name}/trading",
            string_value="go",
            description="go, or stop: then the endpoint answers every account with no trade",
        )
        allow(parts.serving_role.role, "ssm:GetParameter", on=[switch.parameter_arn])
        chosen = {"rules": settings.own_rules, "prices": settings.own_prices}
        serving_image = docker_image(self, "ServingImage", CONTAINERS / NAME / "serve")
        workflow = parts.train_and_deploy(
            image=docker_image(self, "Image", CONTAINERS / NAME / "train"),
            serving_image=serving_image,
            environment={"STOP_PARAMETER": switch.parameter_name},
            metric=Metric(
                name="value",
                minimum_improvement=settings.minimum_improvement,
                higher_is_better=True,
                incomparable="The policy in service was trained under other rules, on other assets or on"
                " prices of another kind",
            ),
            content_types=("application/json",),
            hyperparameters=settings.hyperparameters.as_texts(),
            channels={name: f"{INPUTS}/{name}" for name, own in chosen.items() if own},
            isolated=True,
        )
        pager = parts.pager(workflow)
        letters = dead_letters(self, "DeadLetters", key=parts.key)
        pager.page_when(
            "EventLost",
            letters.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            description=f"{self.stack_name}: EventBridge could not start a scheduled execution or function."
            " Read the message in the dead-letter queue, start what it names by hand, delete the message.",
        )
        if settings.retrain:
            rule = workflow.every(settings.retrain, dead_letters=letters)
            CfnOutput(self, "RetrainRuleName", value=rule.rule_name)
        LeftRunning(
            self,
            "LeftRunning",
            name=parts.endpoint_name,
            topic=pager.topic,
            dead_letters=letters,
            log_retention=parts.keep_logs,
            key=parts.key,
        )
        for id, field, value, description in (
            (
                "OrderRefused",
                "valid",
                False,
                "the endpoint rejected a request because the account's state is not valid; this account gets"
                " no orders. The endpoint's log has the reason: correct the state in the caller.",
            ),
            (
                "PriceOutside",
                "outside",
                True,
                "a price was outside the range of the training data, so the policy's orders are unreliable."
                " To stop trading set the switch to stop; then train with recent prices.",
            ),
        ):
            count = logs.MetricFilter(
                self,
                f"{id}Lines",
                log_group=parts.serving_log,
                filter_pattern=logs.FilterPattern.boolean_value(f"$.{field}", value),
                metric_namespace="Groundplan",
                metric_name=f"{parts.endpoint_name}/{id}",
            )
            pager.page_when(
                id, count.metric(statistic="Sum"), description=f"{self.stack_name}: {description}"
            )
        if settings.notebook != "none":
            notebook = (parts.domain if settings.notebook == "domain" else parts.notebook)(workflow)
            parts.bucket.grant_read(notebook.role, INPUTS)
            parts.bucket.grant_write(notebook.role, INPUTS)
            parts.bucket.grant_read(parts.experiments.training.role, INPUTS)
            allow(parts.experiments.serving.role, "ssm:GetParameter", on=[switch.parameter_arn])
            allow(notebook.role, "pricing:GetProducts", on=["*"], because="IAM knows no resource for prices.")
        CfnOutput(self, "ServingImageUri", value=serving_image.image_uri)
        CfnOutput(self, "StopParameterName", value=switch.parameter_name)
