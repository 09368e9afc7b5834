#!/bin/bash
# Runs as root at every start: starts the idle stop, and installs the kernel "groundplan" with the packages.
# The installation runs in the background, because a lifecycle script has five minutes.
set -eu
folder=/opt/groundplan
idle_minutes={{idle_minutes}}

# The files are packed, because a lifecycle script has at most 12,288 bytes. Root writes no file into a folder
# that the user can write to.
umask 022
mkdir -p "$folder"
python3 - "$folder" <<'PYTHON'
import base64, bz2, json, pathlib, sys
packed = "{{files}}"
for name, text in json.loads(bz2.decompress(base64.b64decode(packed))).items():
    pathlib.Path(sys.argv[1], name).write_text(text)
PYTHON

if [ "$idle_minutes" -gt 0 ]; then
  log=append:/var/log/jupyter.log  # SageMaker sends this file to CloudWatch
  systemd-run --quiet --unit=groundplan-idle-stop --property=Restart=always --property=RestartSec=60 \
    --property=OOMScoreAdjust=-1000 --property=StandardOutput=$log --property=StandardError=$log \
    python3 "$folder/idle_stop.py" --idle-minutes "$idle_minutes" \
    || echo "The idle stop was not started; the daily stop remains."
fi

# /home/ec2-user/SageMaker persists when the instance stops, and with it the installed packages and their log.
command -v python3.11 || dnf install --quiet --assumeyes python3.11
sudo -u ec2-user -i nohup bash -eu > /dev/null 2>&1 <<SCRIPT &
cd /home/ec2-user/SageMaker
exec > .groundplan.log 2>&1
test -x .groundplan/bin/python || python3.11 -m venv .groundplan
.groundplan/bin/python -m pip install --quiet --requirement "$folder/packages.txt" ipykernel
.groundplan/bin/python -m ipykernel install --user --name groundplan --display-name groundplan
SCRIPT
