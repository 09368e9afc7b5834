#!/bin/bash
# An entry point like those in AWS's examples: with literal paths, and without variables of Groundplan.
set -e
test -d /opt/ml/input/config
exec python "/opt/program/$1.py"
