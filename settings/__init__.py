"""Settings of a deployment, with defaults for each environment and the allowed values.

    cdk deploy -c env=prod -c only=ARCHITECTURE -c ARCHITECTURE.FIELD=VALUE -c ARCHITECTURE.GROUP.FIELD=VALUE

`load` returns the `Settings` in the CDK's context, or raises one error that lists every invalid value with
the allowed values. A field's `description` is its documentation and the end of its error message. Settings
contain no secrets and no account ids.
"""

from settings.base import SettingsError
from settings.loading import Settings, load

__all__ = ["Settings", "SettingsError", "load"]
