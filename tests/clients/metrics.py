"""GET /metrics, read by Prometheus' own parser."""

import sys

import numpy as np
import requests
import tritonclient.http as http
from prometheus_client.parser import text_string_to_metric_families

from common import ACME, FRIEND, SERVER, run


def metrics(key):
    answer = requests.get(f"http://{SERVER}/metrics", headers=key, timeout=20)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families, family, name, **labels):
    """The sum of the samples of this name with these labels."""
    samples = [sample for sample in families[family].samples if sample.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def test_nobody_reads_without_a_key():
    assert requests.get(f"http://{SERVER}/metrics", timeout=20).status_code == 401


def test_tritons_names():
    labels = {"model": "add-one", "version": "1", "namespace": "acme", "tenant": "acme"}
    # The parser gives counters the ending that newer formats want.
    counter = lambda families, name: value(families, name, name + "_total", **labels)
    with http.InferenceServerClient(SERVER) as client:
        tensor = http.InferInput("INPUT0", [3, 16], "FP32")
        tensor.set_data_from_numpy(np.zeros((3, 16), dtype=np.float32))
        client.infer("add-one", [tensor], headers=dict(ACME))
        before = metrics(ACME)
        client.infer("add-one", [tensor], headers=dict(ACME))
        after = metrics(ACME)
    grown = {name: counter(after, name) - counter(before, name) for name in after if after[name].type == "counter"}
    # Other tests call the model at the same time.
    assert grown["nv_inference_request_success"] >= 1 and grown["nv_inference_count"] >= 3, grown
    assert grown["nv_inference_exec_count"] >= 1 and grown["nv_inference_request_duration_us"] > 0, grown
    for family, kind in [
        ("nv_inference_request_success", "counter"),
        ("nv_inference_queue_duration_us", "counter"),
        ("nv_inference_request_failure", "counter"),
        ("nv_inference_pending_request_count", "gauge"),
        ("nv_cache_num_hits_per_model", "counter"),
        ("innkeeper_prediction_duration_seconds", "histogram"),
        ("innkeeper_tenant_cache_bytes", "gauge"),
        ("innkeeper_tenant_sequences", "gauge"),
    ]:
        assert after[family].type == kind, (family, after[family].type)
    reasons = {sample.labels["reason"] for sample in after["nv_inference_request_failure"].samples}
    assert reasons == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}, reasons


def test_buckets_add_up():
    family = metrics(ACME)["innkeeper_prediction_duration_seconds"]
    series = {}
    for sample in family.samples:
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        series.setdefault(key, {}).setdefault(sample.name.removeprefix(family.name), []).append(sample)
    assert series
    for parts in series.values():
        counts = [sample.value for sample in parts["_bucket"]]
        assert counts == sorted(counts) and parts["_bucket"][-1].labels["le"] == "+Inf", counts
        assert counts[-1] == parts["_count"][0].value, parts


def test_a_tenant_sees_its_own():
    tenants = {
        sample.labels["tenant"] for family in metrics(FRIEND).values() for sample in family.samples
    }
    assert "acme" not in tenants, tenants


if __name__ == "__main__":
    run(sys.modules[__name__])
