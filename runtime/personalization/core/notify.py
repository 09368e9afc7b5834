"""The notification that a model is READY or has FAILED."""

from __future__ import annotations

import logging

from personalization.core.model import Request, Status
from personalization.core.ports import FollowUps, Topic
from personalization.core.times import iso

log = logging.getLogger(__name__)

NOTIFIED = (Status.READY, Status.FAILED)


def notify(follow_ups: FollowUps, topic: Topic, request: Request) -> None:
    """Publish how `request` ended, once; twice only if the function is killed before `mark_notified`."""
    if request.status not in NOTIFIED or not follow_ups.awaits_notification(request):
        return
    topic.publish(
        f"Your model is {request.status}",
        {
            "user": request.user,
            "model": request.model,
            "status": request.status,
            "reason": request.reason,
            "updated": iso(request.updated),
        },
        {"user": request.user, "status": request.status},
    )
    log.info("notified the user about request %s", request.request)
    follow_ups.mark_notified(request)
