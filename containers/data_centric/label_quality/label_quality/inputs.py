"""The inputs of a job. They are checked before the training.

/opt/ml/processing/manifest/     the labeled manifest: one file
/opt/ml/processing/pictures/     or table/: see `examples`
/opt/ml/processing/answers/      optional: all labelers' answers
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from toolkit import sagemaker

from . import answers, examples, manifests
from .answers import Answers
from .examples import PICTURES, Examples
from .manifests import Manifest
from .settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    manifest: Manifest
    examples: Examples
    answers: Answers
    """Empty: the labels in the manifest are not consolidated"""


def read(settings: Settings) -> Inputs:
    """Read all inputs. Raises `FatalError` for invalid ones."""
    folder = sagemaker.PROCESSING
    manifest = manifests.read(folder / "manifest", settings.attribute)
    answered = answers.read(folder / "answers")
    found = examples.read(folder, sagemaker.source_uri(PICTURES), manifest.lines, settings)
    log.info("items=%d unlabeled=%d answered=%d", len(found.lines), manifest.unlabeled, len(answered))
    return Inputs(manifest, found, answered)
