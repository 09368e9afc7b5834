"""ECR: images that do not exist."""

from __future__ import annotations

import json
from collections.abc import Callable

from local.emulator.ministack import here
from local.emulator.reach import Cloud, hook, replace, touch


@hook
def absent_image_is_an_error(cloud: Cloud) -> None:
    """In MiniStack, DescribeImages returns an empty list for an unknown tag. AWS returns the error
    ImageNotFoundException, on which the CDK builds the image."""

    @replace("services.ecr._describe_images", "data")
    def describe_images(original: Callable, data: dict) -> tuple:
        status, headers, body = original(data)
        if status == 200 and data.get("imageIds") and not json.loads(body)["imageDetails"]:
            wanted = data["imageIds"][0]
            shown = ", ".join(f"{key}:'{value}'" for key, value in sorted(wanted.items()))
            return touch("core.responses.error_response_json", "code", "message", "status")(
                "ImageNotFoundException",
                f"The image with imageId {{{shown}}} does not exist within the repository with name "
                f"'{data.get('repositoryName')}' in the registry with id '{here()[0]}'",
                400,
            )
        return status, headers, body
