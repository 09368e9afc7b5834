"""Building blocks for AWS Step Functions state machines, and checks at synthesis.

The definitions are Amazon States Language with JSONata: https://states-language.net/spec.html
"""

from groundplan.states.check import problems
from groundplan.states.flow import Branch, Flow, Rule, jsonata_object

__all__ = ["Branch", "Flow", "Rule", "jsonata_object", "problems"]
