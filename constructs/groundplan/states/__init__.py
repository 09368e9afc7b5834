"""Building blocks for AWS Step Functions state machines, and checks of the machines at synthesis.

The definitions are Amazon States Language with JSONata: https://states-language.net/spec.html
"""

from groundplan.states.check import problems
from groundplan.states.flow import Branch, Flow, Rule, jsonata_object
from groundplan.states.job import EXECUTION_HASH, UNIQUE, not_text, outside, start_job

__all__ = [
    "EXECUTION_HASH",
    "UNIQUE",
    "Branch",
    "Flow",
    "Rule",
    "jsonata_object",
    "not_text",
    "outside",
    "problems",
    "start_job",
]
