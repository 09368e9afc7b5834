"""Make and send the bids of one asset in an hour's run."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext

from power_bidding.aws import desk
from power_bidding.aws.observe import count, logger, metrics
from power_bidding.core.bidding import Report, make_bids
from power_bidding.handlers.events_of_bids import BidEvent, hour_of


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: BidEvent, context: LambdaContext) -> Report:
    logger.append_keys(hour=event["hour"], asset=event["asset"])
    report = make_bids(desk.desk(), hour_of(event), event["version"], event["asset"])
    count("OffersSent", sum(offer["status"] == "sent" for offer in report["offers"]))
    count("FallbackHours", 0)
    count("NoOfferHours", 0)
    logger.info("bids are made", extra={"offers": report["offers"]})
    return report
