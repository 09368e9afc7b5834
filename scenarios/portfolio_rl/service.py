"""Calls of the endpoint, as an application makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scenarios import aws
from scenarios.portfolio_rl.accounts import Account, Rules, broken, execute, start
from scenarios.portfolio_rl.job import PolicyJob

Order = dict[str, Any]


@dataclass(frozen=True)
class Trades:
    """Results of trading through the endpoint. Values are in dollars."""

    orders: int
    refused: int
    violations: list[str]
    final: list[float]


@dataclass(frozen=True)
class OrderService:
    """The endpoint of a deployed stack."""

    endpoint: str

    def ask(self, accounts: list[dict[str, Any]]) -> list[Order]:
        """Return the order for each account."""
        body = json.dumps({"accounts": accounts})
        answer = aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.endpoint, ContentType="application/json", Body=body
        )
        return json.loads(answer["Body"].read())["orders"]

    def serves(self) -> str:
        """Return the name of the configuration in service."""
        return aws.client("sagemaker").describe_endpoint(EndpointName=self.endpoint)["EndpointConfigName"]

    def trade(self, job: PolicyJob) -> Trades:
        """Trade all the job's held-out episodes from their start, with one request for each time step."""
        rules: Rules = job.card["rules"]
        names = [asset["name"] for asset in rules["assets"]]
        accounts = [start(rules) for _ in job.prices]
        refused, violations = 0, []
        for step in range(job.prices.shape[1] - 1):
            now = [dict(zip(names, row, strict=True)) for row in job.prices[:, step].astype(float).tolist()]
            orders = self.ask([state(*each, step) for each in zip(accounts, now, strict=True)])
            for index, order in enumerate(orders):
                refused += not order["valid"]
                violations += broken(accounts[index], order["units"], now[index], rules)
                accounts[index] = execute(accounts[index], order["units"], now[index], rules)
        last = [dict(zip(names, row, strict=True)) for row in job.prices[:, -1].astype(float).tolist()]
        final = [account.total(prices) for account, prices in zip(accounts, last, strict=True)]
        return Trades(len(accounts) * (job.prices.shape[1] - 1), refused, violations, final)


def state(account: Account, prices: dict[str, float], step: int) -> dict[str, Any]:
    """Return an account in the endpoint's format, with a mask that allows all orders."""
    return {
        "holdings": account.units,
        "cash": account.cash,
        "prices": prices,
        "step": step,
        "mask": "all",
    }
