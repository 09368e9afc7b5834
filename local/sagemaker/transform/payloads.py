"""Splitting of input objects into payloads of requests, and assembly of responses into output objects.

Details that the API reference does not specify follow the local mode of AWS's SageMaker Python SDK
(`sagemaker/local/data.py` and `entities.py`): a line keeps its newline, and all records of a payload come
from one object.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator


class PayloadError(Exception):
    """An object cannot be split. The message is for the job's log."""


def records(file: io.BufferedIOBase, split: str) -> Iterator[bytes]:
    """Yield the records of an object: its lines for SplitType `Line`, the whole object for `None`."""
    if split == "Line":
        yield from file
    else:
        yield file.read()


def payloads(found: Iterable[bytes], strategy: str, most: int) -> Iterator[bytes]:
    """Yield payloads of at most `most` bytes. Raises PayloadError for a larger record.

    :param strategy: BatchStrategy. `SingleRecord`: one record each, `MultiRecord`: as many records as fit
    """
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
    """Return the output object: the concatenated responses, one per line for AssembleWith `Line`."""
    if assemble == "Line":
        return b"".join(answer.removesuffix(b"\n") + b"\n" for answer in answers)
    return b"".join(answers)
