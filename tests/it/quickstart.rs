//! `examples/quickstart`, on a server of its own.

use serde_json::json;

use crate::harness::{Server, guest, root};

#[path = "../../examples/quickstart/src/walk.rs"]
mod walk;

#[test]
fn the_quickstart_walks_from_a_csv_file_to_a_compressed_endpoint() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let csv = std::fs::read(root().join("examples/quickstart/iris.csv")).unwrap();
    let caller = walk::Client::new(tenant.url.clone(), Some(tenant.key.clone()));
    // Whoever tries it once tries it twice.
    for _ in 0..2 {
        walk::walk(&caller, &guest("plugins/mlp").bundle, &csv).unwrap();
    }
    for (alias, version) in [("stable", "3"), ("small", "4")] {
        let path = format!("/v2/models/iris/versions/{alias}/infer");
        let inputs = json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2] }]);
        let answer = tenant.post(&path, &json!({ "inputs": inputs })).expect_status(200).json();
        assert_eq!(answer["model_version"], version, "{answer}");
        let setosa = answer["outputs"][0]["data"][0].as_f64().unwrap();
        assert!(setosa > 0.9, "{answer}");
    }
}
