"""Keys of the objects in the bucket. The ids in them come from the tables, never from a caller's input."""

from __future__ import annotations

UPLOADS = "uploads/"
ADAPTERS = "adapters/"


def uploads(user: str, model: str) -> str:
    return f"{UPLOADS}{user}/{model}/"


def upload(user: str, model: str, number: int) -> str:
    return f"{uploads(user, model)}{number:02}"


def target(user: str, model: str) -> str:
    """Return the model's name at the endpoint: the archive's key below `adapters/`."""
    return f"{user}/{model}.tar.gz"


def adapter(user: str, model: str) -> str:
    return ADAPTERS + target(user, model)


def previews(user: str, model: str) -> str:
    return f"previews/{user}/{model}/"


def generations(user: str, model: str) -> str:
    return f"generations/{user}/{model}/"


def generation(user: str, model: str, generation_id: str) -> str:
    return f"{generations(user, model)}{generation_id}/"


def tasks(job: str) -> str:
    return f"jobs/{job}/tasks.json"


def manifest(job: str) -> str:
    return f"jobs/{job}/images.manifest"


def checkpoints(job: str) -> str:
    return f"jobs/{job}/checkpoints/"


def checkpoint(job: str, request: str) -> str:
    return f"{checkpoints(job)}{request}/"


def result(job: str, request: str) -> str:
    return f"{checkpoint(job, request)}result.json"


def request_of_result(key: str) -> tuple[str, str] | None:
    """Return the job and the request if the key is of a `result.json`; None for another file."""
    parts = key.split("/")
    if len(parts) == 5 and (parts[0], parts[2], parts[4]) == ("jobs", "checkpoints", "result.json"):
        return parts[1], parts[3]
    return None
