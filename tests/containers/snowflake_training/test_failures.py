"""Errors end the job within seconds, on all hosts, with one sentence that names the cause and no secret."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import free_port
from tests.support.snowflake_training.image import IMAGE, QUICK, Image, Job, Warehouse, encrypted, keep
from tooling.containers import import_path


@pytest.fixture(scope="module")
def tables(warehouse: Warehouse) -> None:
    warehouse.numbers("GOOD", 300)
    warehouse.run("CREATE OR REPLACE TABLE EMPTY (A FLOAT, Y FLOAT)")
    warehouse.numbers("TINY", 12)
    warehouse.run("CREATE OR REPLACE TABLE BLANK AS SELECT A, B, CAST(NULL AS FLOAT) AS Y FROM GOOD")
    warehouse.run("CREATE OR REPLACE TABLE LONELY AS SELECT Y FROM GOOD")
    warehouse.run("CREATE OR REPLACE TABLE DATED AS SELECT Y, DATE '2026-01-01' AS SINCE FROM GOOD")
    warehouse.run("CREATE OR REPLACE TABLE HOLLOW AS SELECT Y, CAST(NULL AS FLOAT) AS A FROM GOOD")
    warehouse.run(
        "CREATE OR REPLACE TABLE WORDS AS SELECT A, 'high' AS Y, A > 0 AS FLAG, CURRENT_DATE() AS D FROM GOOD"
    )
    warehouse.run("CREATE OR REPLACE TABLE ENDLESS AS SELECT A, B, 'inf'::FLOAT AS Y FROM GOOD")
    warehouse.run("CREATE OR REPLACE TABLE HUGE AS SELECT A, 1e200 AS B, Y FROM GOOD")
    warehouse.run("CREATE OR REPLACE TABLE ABOVE AS SELECT A, B, A + 1 AS Y FROM GOOD")
    # Only one row is outside of the objective's range, so that only one host would find it during training.
    for name, least in {"BELOW": "-3", "NONE": "0"}.items():
        warehouse.run(
            f"CREATE OR REPLACE TABLE {name} AS "
            f"SELECT A, B, CASE WHEN A = 0 THEN {least} ELSE A + 1 END AS Y FROM GOOD"
        )
    warehouse.run(
        "CREATE OR REPLACE TABLE STEEP AS SELECT A, B, CASE WHEN A = 0 THEN 1e200 ELSE A END AS Y FROM GOOD"
    )
    warehouse.run(
        "CREATE OR REPLACE TABLE HOLES AS SELECT CASE WHEN A > 0 THEN NULL ELSE A END AS A, B, Y FROM GOOD"
    )


REASONS = {
    "no such table": (
        {"table": "NO_SUCH_TABLE"},
        "table NO_SUCH_TABLE does not exist, or the user may not read it",
    ),
    "empty table": ({"table": "EMPTY"}, "table EMPTY is empty"),
    "few rows": ({"table": "TINY"}, "table TINY must have at least 20 rows with target Y, got 12"),
    "no target": ({"target": "PRICE"}, "table GOOD has no column PRICE: it has A, B, Y"),
    "blank target": ({"table": "BLANK"}, "target Y of table BLANK is blank in all 300 rows"),
    "text target": ({"table": "WORDS"}, "target Y of table WORDS must be a number, got text"),
    "truth target": (
        {"table": "WORDS", "target": "FLAG"},
        "target FLAG of table WORDS must be a number, got boolean",
    ),
    "date target": ({"table": "WORDS", "target": "D"}, "target D of table WORDS must be a number, got DATE"),
    "infinite target": (
        {"table": "ENDLESS"},
        "target Y of table ENDLESS must be a finite number of at most 3.4e38 in each row",
    ),
    "target beyond float32": (
        {"table": "STEEP"},
        "target Y of table STEEP must be a finite number of at most 3.4e38 in each row",
    ),
    "negative counts": (
        {"table": "BELOW", "objective": "count:poisson"},
        "target Y of table BELOW must be at least 0 for objective count:poisson, got -3",
    ),
    "zero for gamma": (
        {"table": "NONE", "objective": "reg:gamma"},
        "target Y of table NONE must be above 0 for objective reg:gamma, got 0",
    ),
    "huge feature": (
        {"table": "HUGE"},
        "column B holds a value that is not a finite number of at most 3.4e38",
    ),
    "target alone": (
        {"table": "LONELY"},
        "table LONELY must have a usable feature besides target Y, got columns Y",
    ),
    "dates alone": (
        {"table": "DATED"},
        "table DATED must have a usable feature besides target Y, got columns SINCE, Y",
    ),
    "blanks alone": (
        {"table": "HOLLOW"},
        "table HOLLOW must have a usable feature besides target Y, got none (A: blank in all rows)",
    ),
    "dropped": (
        {"table": "HOLES", "blanks": "drop"},
        "table HOLES must have at least 20 usable rows, some for training and some for validation, got 1 of "
        "300 rows, 0 of them for validation (0 rows without target Y, blanks=drop)",
    ),
    "no such coordinate": (
        {"coordinates": "LATITUDE,LONGITUDE"},
        "hyperparameter coordinates must name columns of numbers of table GOOD, got LATITUDE",
    ),
    "bad setting": ({"eta": "2"}, "hyperparameter eta must be a number above 0 and up to 1, got '2'"),
    "injection": (
        {"table": "GOOD; DROP TABLE GOOD"},
        "hyperparameter table must be a table as TABLE, SCHEMA.TABLE or "
        "DATABASE.SCHEMA.TABLE, each a NAME of up to 255 letters, digits, _ and $, or any "
        "\"name in double quotes\", got 'GOOD; DROP TABLE GOOD'",
    ),
    "no such secret": ({"secret": "nothing"}, "secret nothing cannot be read: there is no such secret"),
}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("names", [list(REASONS)[i::5] for i in range(5)], ids=str)
def test_failure_reason_names_the_invalid_input(image: Image, secret: str, names: list[str]):
    """Run several jobs at a time, because a job spends most of its time starting Python."""
    given = {**QUICK, "secret": secret, "table": "GOOD", "target": "Y"}
    jobs = {name: image.train(given | REASONS[name][0]) for name in names}
    found = {name: job.reason() for name, job in jobs.items()}
    assert found == {name: REASONS[name][1] for name in names}
    # and the reason is the last line of the log
    assert [jobs[name].first.log.splitlines()[-1] for name in names] == [
        f"ERROR {found[name]}" for name in names
    ]


@pytest.mark.usefixtures("tables")
def test_objectives_take_targets_within_their_range(image: Image, secret: str):
    given = {**QUICK, "secret": secret, "table": "NONE", "target": "Y"}
    jobs = [
        image.train(given | {"objective": "count:poisson"}, hosts=2),
        image.train(given | {"objective": "reg:gamma", "table": "ABOVE"}),
        image.train(given | {"objective": "reg:pseudohubererror", "table": "BELOW"}),
        image.train(given | {"objective": "reg:absoluteerror", "table": "BELOW"}),
    ]
    for job in jobs:
        job.succeeded()


FAILING = """
import os
if os.environ.get("FAIL") == "1":
    import xgboost
    update = xgboost.Booster.update
    def failing(self, train, iteration, *rest):
        if iteration == 3 and xgboost.collective.get_rank() == {rank}:
            raise xgboost.core.XGBoostError(
                "[12:00:00] /workspace/src/some.cc:7: the learner's own reason\\nStack trace:\\n  [bt] (0) x")
        return update(self, train, iteration, *rest)
    xgboost.Booster.update = failing
"""


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("rank", [0, 1])
def test_exception_of_a_learner_is_the_reason_of_every_host(
    image: Image, secret: str, tmp_path: Path, rank: int
):
    # given a learner that fails on one of three hosts during the training
    (tmp_path / "sitecustomize.py").write_text(FAILING.replace("{rank}", str(rank)))
    path = os.pathsep.join((import_path(IMAGE), str(tmp_path)))
    given = {**QUICK, "secret": secret, "table": "GOOD", "target": "Y", "timeout": "600"}
    job = image.train(given, hosts=3, PYTHONPATH=path, FAIL="1")
    # then the last log line of every host is the reason, with the exception's complete message
    reason = job.reason()
    assert reason == f"host {job.hosts[rank].name}: XGBoostError: the learner's own reason"
    for host in job.hosts:
        assert host.log.splitlines()[-1] == f"ERROR {reason}"
    # and the log of the failed host has the whole traceback
    assert "Stack trace" in job.hosts[rank].log


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    "name", ["no such table", "infinite target", "dropped", "bad setting", "no such secret"]
)
def test_all_hosts_end_with_the_reason(image: Image, secret: str, name: str):
    """The reason does not depend on which host fails, or on what the other hosts are waiting for."""
    change, reason = REASONS[name]
    job = image.train({**QUICK, "secret": secret, "table": "GOOD", "target": "Y", **change}, hosts=3)
    assert job.reason() == reason


# --- logging in ---

NO_KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END PRIVATE KEY-----"


def login(image: Image, aws: dict[str, str], name: str, value: Any, **env: str) -> Job:
    keep(aws, name, value)
    return image.train({**QUICK, "secret": name, "table": "GOOD", "target": "Y"}, 1, None, **env)


def without(known: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name not in names} | more


@pytest.mark.usefixtures("tables")
def test_login_works_with_a_key_or_a_password(image: Image, aws: dict[str, str], warehouse: Warehouse):
    known = warehouse.credentials
    phrase = "correct horse battery"
    jobs = [
        login(image, aws, "by-key", without(known, "password")),
        login(image, aws, "by-password", without(known, "private_key")),
        login(
            image,
            aws,
            "by-locked-key",
            without(
                known,
                "password",
                private_key=encrypted(known["private_key"], phrase),
                private_key_passphrase=phrase,
            ),
        ),
        # the key is used if the secret has both a key and a password
        login(image, aws, "by-both", {**known, "password": "wrong"}),
    ]
    for job in jobs:
        job.succeeded()
        told = everything_told(job)
        for secret in (phrase, known["password"], *body(known["private_key"])):
            assert secret not in told


@pytest.mark.usefixtures("tables")
def test_error_of_a_secret_is_reported_without_its_content(
    image: Image, aws: dict[str, str], warehouse: Warehouse
):
    known = warehouse.credentials
    other = encrypted(known["private_key"], "right")
    bad = {
        "wrong-password": without(known, "private_key", password="hunter2-hunter2"),
        "unknown-user": without(known, "private_key", user="MALLORY"),
        "wrong-key": without(
            known, private_key="-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END PRIVATE KEY-----"
        ),
        "wrong-passphrase": without(known, private_key=other, private_key_passphrase="wrong-passphrase-1"),
        "no-proof": without(known, "private_key", "password"),
        "no-account": without(known, "account"),
        "strange": without(known, insecure_mode=True),
        "not-json": "user=GROUNDPLAN;password=hunter2-hunter2",
        "a-list": json.dumps(["hunter2-hunter2"]),
        "no-text": without(known, private_key=body(known["private_key"])),
    }
    jobs = {name: login(image, aws, name, value) for name, value in bad.items()}
    nowhere = without(known, port=free_port())
    jobs["nobody-there"] = login(image, aws, "nobody-there", nowhere, GROUNDPLAN_LOGIN_SECONDS="2")
    reasons = {name: job.reason() for name, job in jobs.items()}
    refused = "Snowflake refused the login of user {} of account GROUNDPLAN: "
    assert reasons.pop("wrong-password").startswith(refused.format("GROUNDPLAN"))
    assert reasons.pop("unknown-user").startswith(refused.format("MALLORY"))
    reached = "Snowflake cannot be reached for user GROUNDPLAN of account GROUNDPLAN: "
    assert reasons.pop("nobody-there").startswith(reached)
    assert reasons == {
        "wrong-key": "private_key of the secret is damaged, or of an unknown format",
        "wrong-passphrase": "private_key_passphrase of the secret does not decrypt private_key",
        "no-proof": "secret no-proof must have private_key, or password where key pairs are impossible",
        "no-account": "secret no-account lacks account",
        "strange": "secret strange must have only the fields account, user, warehouse, database, schema, "
        "private_key, private_key_passphrase, password, role, host, port, protocol, got insecure_mode",
        "not-json": "secret not-json is not JSON",
        "a-list": "secret a-list is not a JSON object",
        "no-text": "secret no-text: private_key must be text",
    }
    for job in jobs.values():
        told = everything_told(job)
        secrets = (
            "hunter2",
            "c2VjcmV0",
            "wrong-passphrase-1",
            known["password"],
            *body(known["private_key"]),
        )
        for secret in secrets:
            assert secret not in told


LEAK = """
import sys
from snowflake_xgboost import __main__, peers, train

key = sys.argv[1]

def leak():
    raise ValueError("no key in " + key)

where = sys.argv.pop()
train.run = {"alone": lambda settings, cluster: leak(), "together": lambda settings, cluster:
    peers.together(cluster, leak)}[where]
sys.argv[1:] = ["work"]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("where", ["alone", "together"])
def test_key_in_a_librarys_error_is_redacted(image_python: Path, tmp_path: Path, where: str):
    # given a library that raises an error with the lines of the key
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text('{"secret": "S", "table": "T", "target": "Y"}')
    done = subprocess.run(
        [str(image_python), "-c", LEAK, NO_KEY, where],
        env={"PYTHONPATH": import_path(IMAGE), "SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    # then the log has the whole traceback, the failure file has the reason, and neither has the key
    told = done.stdout + done.stderr
    reason = (tmp_path / "output" / "failure").read_text()
    assert done.returncode == 1
    assert "in leak" in told
    assert reason.endswith("ValueError: no key in ***")
    assert not [line for line in body(NO_KEY) if line in told + reason]


def everything_told(job: Job) -> str:
    """Return the log, the failure reason, and every file that the job wrote."""
    texts = []
    for path in job.first.base.rglob("*"):
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    return "\n".join(texts)


def body(pem: str) -> list[str]:
    """Return the lines of a key, none of which may be reported."""
    return [line for line in pem.splitlines() if line and not line.startswith("-----")]
