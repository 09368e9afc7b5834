#!/bin/bash
# A container as AWS's own examples write them: literal paths, host names, no variable of ours.
set -e
test -d /opt/ml/input/config
exec python "/opt/program/$1.py"
