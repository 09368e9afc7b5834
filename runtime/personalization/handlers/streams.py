"""Batches of the stream of `requests`. Records are delivered at least once, in order for each request."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from personalization.aws.store import request_of
from personalization.aws.tables import unmarshal
from personalization.core.model import Request
from personalization.handlers.events import StreamBatch

processor = BatchProcessor(EventType.DynamoDBStreams, logger=logging.getLogger(__name__))


def each_new_status(
    event: StreamBatch, context: LambdaContext, work: Callable[[Request], None]
) -> PartialItemFailureResponse:
    """Call `work` with each request whose status has changed; return the records for which `work` raised.

    Every record is tried. Lambda delivers the batch again from the first failed record. Raises
    `BatchProcessingError` if all records failed, so that Lambda bisects the batch.
    """

    def handle(record: DynamoDBRecord) -> None:
        change = record.raw_event["dynamodb"]
        after = unmarshal(change.get("NewImage", {}))
        if after and after["status"] != unmarshal(change.get("OldImage", {})).get("status"):
            work(request_of(after))

    return process_partial_response(
        event=dict(event), record_handler=handle, processor=processor, context=context
    )
