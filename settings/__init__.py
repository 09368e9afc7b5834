"""What a deployment may choose, per environment, and what is allowed for each choice.

    cdk deploy -c env=prod -c only=ARCHITECTURE -c ARCHITECTURE.FIELD=VALUE -c ARCHITECTURE.GROUP.FIELD=VALUE

`load` turns the CDK's context into `Settings`, or says in one error what is wrong and what is allowed.
A field's `description` is both its documentation and the end of that sentence. Secrets and account ids
have no place here.
"""

from settings.base import SettingsError
from settings.loading import Settings, load

__all__ = ["Settings", "SettingsError", "load"]
