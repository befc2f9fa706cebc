"""Every answer is as the published OpenAPI document has it: schemathesis, from PyPI, makes requests of the document, good and
bad ones, and holds status, type and body of each answer against it."""

import os
import subprocess
import sys
import tempfile

import requests

from common import ACME, SERVER, run

HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds for all of it. It is over long before; this is for a machine that has much else to do.
SECONDS_MAX = 500
# The same handlers are behind the paths that name an owner.
ELSEWHERE = "^/t/"


def post(path, **body):
    answer = requests.post(f"http://{SERVER}{path}", headers=ACME, timeout=20, **body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def prepared():
    """What requests can name: rows to learn from, a job, an upload. Answers the configuration with their names."""
    rows = "a,b,label\n" + "".join(f"{i},{i * 2},{'xy'[i % 2]}\n" for i in range(20))
    post("/api/v1/datasets/rows?format=csv", data=rows)
    job = post("/api/v1/jobs", json={"kind": "train", "model": "mlp", "dataset": "rows"})
    upload = post("/api/v1/uploads")
    with open(os.path.join(HERE, "schemathesis.toml"), encoding="utf-8") as file:
        return file.read().replace("JOB", job["id"]).replace("UPLOAD", upload["upload"])


def test_answers_are_as_the_document_has_them():
    secret = ACME["Authorization"].removeprefix("Bearer ")
    # PYTHONPATH leads to the hooks, whatever folder this runs in.
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": HERE, "COLUMNS": "160"}
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "schemathesis.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(prepared())
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run"]
        command += [f"http://{SERVER}/api/v1/openapi.json", "--exclude-path-regex", ELSEWHERE]
        command += ["--header", f"Authorization: Bearer {secret}"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX
        )
    assert done.returncode == 0, done.stdout + done.stderr
    # A document without operations would fail nothing.
    assert "Tested: 1" in done.stdout, done.stdout


if __name__ == "__main__":
    run(sys.modules[__name__])
