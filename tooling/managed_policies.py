"""Write the local cloud's list of AWS managed policies, from a wheel of moto.

    python -m pip download --no-deps moto==5.2.5
    python -m tooling.managed_policies moto-5.2.5-py3-none-any.whl

moto (Apache-2.0) contains responses of IAM's ListPolicies and GetPolicyVersion. The list here is from moto
5.2.5, in which the latest change of a policy is of 2026-09-30.
"""

from __future__ import annotations

import ast
import json
import lzma
import sys
import zipfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "local/emulator/patches/aws_managed_policies.json.xz"


def documents(wheel: Path) -> dict[str, dict]:
    """Return the default document of each policy, by path and name as in its ARN."""
    with zipfile.ZipFile(wheel) as archive:
        module = ast.parse(archive.read("moto/iam/aws_managed_policies.py"))
    text = next(node.value for node in module.body if isinstance(node, ast.Assign))
    policies = json.loads(ast.literal_eval(text))
    found = {(policy["Path"] + name).lstrip("/"): policy["Document"] for name, policy in policies.items()}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    content = json.dumps(documents(Path(sys.argv[1])), separators=(",", ":")).encode()
    TARGET.write_bytes(lzma.compress(content, preset=9))
