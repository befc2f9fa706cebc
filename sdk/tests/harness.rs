//! The native harness holds a model to its signature as the host does.

#![allow(clippy::unwrap_used)]

use innkeeper_sdk::test::{Harness, Request};
use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec, request,
};

/// Answers as its asset says: the asset's name is the behaviour.
struct Told(String);

impl Model for Told {
    fn load(assets: &Assets) -> Result<Self> {
        let told = assets.list().first().map(|asset| asset.name.clone()).unwrap_or_default();
        match told.as_str() {
            "load fails" => Err(Error::unsupported("load fails")),
            _ => Ok(Told(told)),
        }
    }

    fn signature(&self) -> Signature {
        let good = Signature::new()
            .with_input(TensorSpec::new("X", DType::Fp32, &[-1, 2]).optional())
            .output("Y", DType::Fp32, &[-1]);
        match self.0.as_str() {
            "twice in the signature" => good.output("Y", DType::Fp32, &[-1]),
            "negative in the signature" => good.output("Z", DType::Fp32, &[-5]),
            _ => good,
        }
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let y = Tensor::from_slice(&[1], &[1f32])?;
        let outputs = Outputs::new().with("Y", y.share()?);
        match self.0.as_str() {
            "nothing" => Ok(Outputs::new()),
            "too much" => Ok(outputs.with("Z", y)),
            "twice" => Ok(outputs.with("Y", y)),
            "another dtype" => Ok(Outputs::new().with("Y", y.cast(DType::Int8)?)),
            "another shape" => Ok(Outputs::new().with("Y", y.reshape(&[1, 1])?)),
            "an error" => Err(Error::invalid_argument("X is too large")),
            "an input that is not there" => {
                Ok(Outputs::new().with("Y", inputs.tensor("X")?.share()?))
            }
            "panic" => panic!("as told"),
            "request" => {
                let known = [request::id(), request::parameter("p").unwrap_or_default()];
                Err(Error::internal(format!("{known:?} {}", request::wants_output("Y"))))
            }
            _ => Ok(outputs),
        }
    }
}

fn told(what: &str) -> Result<Harness<Told>> {
    Harness::load([(what, Vec::new())])
}

#[test]
fn a_model_is_held_to_its_signature() {
    let cases = [
        ("nothing", r#"output "Y" is missing; the model wants FP32 [-1]"#),
        ("too much", r#"there is no output named "Z"; the model has Y"#),
        ("twice", r#"output "Y" is given twice"#),
        ("another dtype", r#"output "Y" must be FP32, got INT8"#),
        ("another shape", r#"output "Y" must have shape [-1], got [1,1]"#),
    ];
    for (what, text) in cases {
        let error = told(what).unwrap().predict(Inputs::new()).unwrap_err();
        assert_eq!(error, Error::internal(text), "{what}");
    }
    assert_eq!(told("ok").unwrap().predict(Inputs::new()).unwrap().len(), 1);
}

#[test]
fn a_models_own_errors_come_as_they_are() {
    let error = told("an error").unwrap().predict(Inputs::new()).unwrap_err();
    assert_eq!(error, Error::invalid_argument("X is too large"));
    let error = told("an input that is not there").unwrap().predict(Inputs::new()).unwrap_err();
    assert_eq!(error, Error::invalid_argument(r#"there is no input named "X"; there are: "#));
    assert_eq!(told("load fails").unwrap_err(), Error::unsupported("load fails"));
}

#[test]
fn a_caller_is_held_to_the_signature() {
    let model = told("ok").unwrap();
    let inputs = Inputs::new().with("X", Tensor::from_slice(&[3], &[0f32; 3]).unwrap());
    let error = model.predict(inputs).unwrap_err();
    assert_eq!(error, Error::invalid_argument(r#"input "X" must have shape [-1,2], got [3]"#));
}

#[test]
fn signatures_that_no_model_may_have() {
    for (what, text) in [
        ("twice in the signature", r#"output "Y" stands twice"#),
        ("negative in the signature", r#""Z" has a dimension of -5"#),
    ] {
        let error = told(what).unwrap_err();
        assert!(matches!(error, Error::Internal(_)) && error.text().contains(text), "{error:?}");
    }
}

#[test]
fn a_request_is_known_while_it_is_answered() {
    let model = told("request").unwrap();
    let known = |request: Request| model.predict_for(request, Inputs::new()).unwrap_err();
    let request = Request::new().id("42").parameter("p", "true").wants("Z");
    assert_eq!(known(request), Error::internal(r#"["42", "true"] false"#));
    assert_eq!(known(Request::new()), Error::internal(r#"["", ""] true"#));

    let panics = told("panic").unwrap();
    let call = || panics.predict_for(Request::new().id("42"), Inputs::new());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    assert_eq!(request::id(), "");
}

/// Opens what its assets have.
struct Opens(Vec<u8>, Tensor);

impl Model for Opens {
    fn load(assets: &Assets) -> Result<Self> {
        let absent = assets.weights("weights.safetensors").tensor("absent").unwrap_err();
        assert!(matches!(absent, Error::NotFound(_)), "{absent:?}");
        let absent = assets.read("absent.txt").unwrap_err().to_string();
        assert_eq!(absent, r#"no asset "absent.txt"; there are: note.txt, weights.safetensors"#);
        let wrong = assets.weights("note.txt").names().unwrap_err();
        assert!(matches!(wrong, Error::InvalidArgument(_)), "{wrong:?}");
        assert_eq!(assets.read_at("note.txt", 2, 99)?, b"te");
        assert_eq!(assets.weights("weights.safetensors").names()?, ["w"]);
        Ok(Opens(assets.read("note.txt")?, assets.weights("weights.safetensors").tensor("w")?))
    }

    fn signature(&self) -> Signature {
        Signature::new().output("Y", DType::Fp32, &[])
    }

    fn predict(&self, _inputs: Inputs) -> Result<Outputs> {
        Ok(Outputs::new())
    }
}

#[test]
fn a_plugins_assets_are_those_of_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend_from_slice(header);
    weights.extend_from_slice(bytemuck::bytes_of(&[1f32, 2.0]));
    std::fs::write(folder.path().join("w"), weights).unwrap();
    std::fs::write(folder.path().join("n"), "note").unwrap();
    let manifest = "[[assets]]\nname = \"weights.safetensors\"\npath = \"w\"\n\
                    [[assets]]\nname = \"note.txt\"\npath = \"n\"\n";
    std::fs::write(folder.path().join("innkeeper.toml"), manifest).unwrap();

    let opened = Harness::<Opens>::load_plugin(folder.path()).unwrap();
    let Opens(note, weight) = opened.model();
    assert_eq!((note.as_slice(), weight.to_vec::<f32>().unwrap()), (&b"note"[..], vec![1.0, 2.0]));

    std::fs::remove_file(folder.path().join("n")).unwrap();
    let error = Harness::<Opens>::load_plugin(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}
