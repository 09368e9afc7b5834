"""AWS's service models, with which requests are validated and responses are shaped.

They are read from the botocore version that the project's `requirements.txt` locks. The emulator's
environment has an older version, which MiniStack pins; both versions read the same file format.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from tooling import envs


def locked_version() -> str:
    """Return the version of botocore in the project's `requirements.txt`."""
    text = (envs.ROOT / envs.ENVIRONMENTS["app"]).read_text()
    found = re.search(r"^botocore==(\S+)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{envs.ENVIRONMENTS['app']} does not lock botocore")
    return found[1]


def folder() -> Path:
    """Return the locked botocore's data folder. Raises RuntimeError if that version is not installed."""
    packages, version = envs.site_packages("app"), locked_version()
    if not (packages / f"botocore-{version}.dist-info").is_dir():
        raise RuntimeError(f"botocore {version} is not in {packages}: run `make setup`")
    return packages / "botocore" / "data"


@functools.cache
def service_model(service: str = "sagemaker") -> Any:  # a botocore ServiceModel, whose properties are untyped
    """Return the locked model of a service, given its name in botocore. Raises RuntimeError like `folder`."""
    loader = Loader(extra_search_paths=[str(folder())], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model(service, "service-2"), service)
