"""The inputs of a job, which are checked before a model is trained.

/opt/ml/processing/manifest/     the labeled manifest: one file
/opt/ml/processing/pictures/     the items' pictures, unless there is the input `table`
/opt/ml/processing/table/        the items' features, unless there is the input `pictures`
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
    """The labelers' answers, from which the consensus is made. Empty: the manifest's labels are used"""


def read(settings: Settings) -> Inputs:
    """Read all inputs. Raises `FatalError` if one is invalid."""
    folder = sagemaker.PROCESSING
    manifest = manifests.read(folder / "manifest", settings.attribute)
    answered = answers.read(folder / "answers")
    found = examples.read(folder, sagemaker.source_uri(PICTURES), manifest.lines, settings)
    log.info("items=%d unlabeled=%d answered=%d", len(found.lines), manifest.unlabeled, len(answered))
    return Inputs(manifest, found, answered)
