from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan.removal import removal


class ModelRegistry(Construct):
    """A model package group: all trained models with their metrics and approval status.

    :param name: the group's name, unique in the account and Region.
    :param description: description of the group.
    :param retain: whether the group and its packages remain when the stack is deleted. Default: False; the
        packages must then be deleted before the stack, which `CleanUp` does.
    """

    def __init__(
        self, scope: Construct, id: str, *, name: str, description: str, retain: bool = False
    ) -> None:
        super().__init__(scope, id)
        self.group = sagemaker.CfnModelPackageGroup(
            self, "Group", model_package_group_name=name, model_package_group_description=description
        )
        """The model package group."""
        self.group.apply_removal_policy(removal(retain))
        self.name = name
        """The group's name."""
        self.group_arn = self.group.attr_model_package_group_arn
        """The group's ARN."""
        self.package_arns = Stack.of(self).format_arn(
            service="sagemaker", resource="model-package", resource_name=f"{name}/*"
        )
        """Pattern of the ARNs of the group's packages."""
