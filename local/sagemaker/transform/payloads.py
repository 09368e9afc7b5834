"""How input objects are split into the payloads of requests, and answers assembled into output objects.

Where the API reference leaves details open, they are as in the local mode of AWS's SageMaker Python SDK
(`sagemaker/local/data.py` and `entities.py`): a line keeps its newline, a payload stays within one object.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator


class PayloadError(Exception):
    """An object cannot be split; the text is for the job's log."""


def records(file: io.BufferedIOBase, split: str) -> Iterator[bytes]:
    """Return the records of an object: its lines for SplitType `Line`, the whole object for `None`."""
    if split == "Line":
        yield from file
    else:
        yield file.read()


def payloads(found: Iterable[bytes], strategy: str, most: int) -> Iterator[bytes]:
    """Payloads of at most `most` bytes: one record each for BatchStrategy `SingleRecord`, as many as fit for
    `MultiRecord`. Raises PayloadError for a larger record."""
    batch, size = [], 0
    for record in found:
        if len(record) > most:
            raise PayloadError("Too much data for max payload size")
        if batch and (strategy == "SingleRecord" or size + len(record) > most):
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield b"".join(batch)


def assembled(answers: Iterable[bytes], assemble: str) -> bytes:
    """Return the output object: the answers concatenated, with AssembleWith `Line` one per line."""
    if assemble == "Line":
        return b"".join(answer.removesuffix(b"\n") + b"\n" for answer in answers)
    return b"".join(answers)
