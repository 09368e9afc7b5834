"""Generated requests to the API on real tables: each response conforms to the API's OpenAPI document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_responses_to_generated_requests_match_the_document(tmp_path: Path) -> None:
    # when the benchmark sends some generated requests
    figures = tmp_path / "requests.json"
    sent = ["--requests", "200", "--processes", "1", "--seed", "1", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.personalization.api", *sent], capture_output=True, text=True
    )
    # then each response conforms to the OpenAPI document
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["requests"] >= 200
    assert found["wrong"] == 0
    assert {"200", "201", "400", "404", "422"} <= set(found["statuses"])
