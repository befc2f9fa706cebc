"""The official OpenAI SDK trains a model, and tritonclient calls what comes of it."""

import io
import json
import os
import sys
import time

import numpy as np
import openai
import tritonclient.http as http
from openai import OpenAI

from common import ACME, SERVER, run

# Three clouds of points, one for each class.
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=np.float32)


def rows(count, seed):
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 3, count)
    points = CENTRES[labels] + chance.normal(0, 0.5, (count, 2)).astype(np.float32)
    return points, labels


def jsonl(count, seed):
    points, labels = rows(count, seed)
    lines = [json.dumps({"x": x.tolist(), "label": int(label)}) for x, label in zip(points, labels)]
    return io.BytesIO("\n".join(lines).encode())


def wait(client, job):
    for _ in range(600):
        job = client.fine_tuning.jobs.retrieve(job.id)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job.id} is {job.status}")


def test_a_model_is_trained_and_called(client):
    seen = client.files.create(file=("clouds.jsonl", jsonl(300, 1)), purpose="fine-tune")
    unseen = client.files.create(file=("more.jsonl", jsonl(60, 2)), purpose="fine-tune")
    assert seen.status == "processed" and seen.filename == "clouds.jsonl", seen
    assert seen.id in [file.id for file in client.files.list()]
    job = client.fine_tuning.jobs.create(
        model="mlp",
        training_file=seen.id,
        validation_file=unseen.id,
        hyperparameters={"n_epochs": 20, "batch_size": 16, "learning_rate_multiplier": 10},
        seed=7,
        suffix="clouds",
        metadata={"why": "a test"},
    )
    assert job.object == "fine_tuning.job" and job.training_file == seen.id and job.seed == 7, job
    job = wait(client, job)
    assert job.status == "succeeded" and job.fine_tuned_model == "clouds@1", job
    assert job.hyperparameters.n_epochs == 20 and job.metadata == {"why": "a test"}, job
    events = client.fine_tuning.jobs.list_events(job.id, limit=5)
    assert events.data[0].message == "succeeded" and events.has_more, events
    assert len(list(events)) > 20
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoints.data[0].metrics.full_valid_mean_token_accuracy > 0.95, checkpoints.data[0]
    assert checkpoints.data[0].fine_tuned_model_checkpoint == "clouds@1"
    numbers = client.files.content(job.result_files[0]).text.splitlines()
    assert numbers[0].startswith("epoch,accuracy,loss") and len(numbers) == 21, numbers
    assert job.id in [other.id for other in client.fine_tuning.jobs.list(limit=1)]

    points, labels = rows(30, 3)
    x = http.InferInput("INPUT0", list(points.shape), "FP32")
    x.set_data_from_numpy(points)
    with http.InferenceServerClient(SERVER) as triton:
        answer = triton.infer("clouds", [x], headers=dict(ACME)).as_numpy("OUTPUT0")
    assert (answer.argmax(1) == labels).mean() > 0.9

    assert client.files.delete(unseen.id).deleted


def test_a_job_can_be_cancelled(client):
    file = client.files.create(file=("long.jsonl", jsonl(300, 4)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="mlp", training_file=file.id, hyperparameters={"n_epochs": 100000}, suffix="never"
    )
    job = client.fine_tuning.jobs.cancel(job.id)
    assert job.status == "cancelled" and job.fine_tuned_model is None, job


def test_what_is_wrong_is_told_in_openais_form(client):
    def raised(kind, call):
        try:
            call()
        except kind as error:
            return error.body["message"]
        raise AssertionError("nothing was raised")

    jobs, files = client.fine_tuning.jobs, client.files
    text = raised(openai.NotFoundError, lambda: jobs.create(model="mlp", training_file="file-0"))
    assert "file-0" in text, text
    text = raised(
        openai.UnprocessableEntityError,
        lambda: files.create(file=("bad.jsonl", b'{"a": 1}\n{"a": }'), purpose="fine-tune"),
    )
    assert "line 2" in text, text
    text = raised(
        openai.BadRequestError,
        lambda: files.create(file=("odd.xls", b"x"), purpose="fine-tune"),
    )
    assert "does not say its format" in text, text
    raised(openai.BadRequestError, lambda: files.create(file=("a.csv", b"x\n1"), purpose="batch"))
    raised(openai.NotFoundError, lambda: jobs.retrieve("job-0"))


if __name__ == "__main__":
    key = os.environ["ACME_KEY"]
    run(sys.modules[__name__], OpenAI(base_url=f"http://{SERVER}/v1", api_key=key, max_retries=0))
