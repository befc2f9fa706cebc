//! Inputs of several lengths as inputs of one, and outputs cut back to their callers' lengths.

use innkeeper_tensor::{
    Buffer, Mismatch, Named, Shape, Signature, StackError, Tensor, TensorError, TensorSpec,
};
use serde::{Deserialize, Serialize};

use super::BatchingError;

/// An input whose requests need not be of one length to share a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// The input. It has one open dimension beside the batch axis, along which it is padded.
    pub input: String,
    /// What it is padded with; 0 stands for the empty string too.
    #[serde(default)]
    pub value: i64,
    /// Outputs that are as long as the input along their own open dimension, and are cut back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}

/// A [`Pad`], held against the signature.
#[derive(Debug)]
pub(crate) struct Padding {
    input: String,
    axis: usize,
    element: Vec<u8>,
    /// Each with the dimension that is cut.
    outputs: Vec<(String, usize)>,
}

impl Padding {
    pub(crate) fn new(pad: &Pad, signature: &Signature) -> Result<Padding, BatchingError> {
        let Pad { input, value, outputs } = pad;
        let spec = spec("input", &signature.inputs, input)?;
        let element = spec.dtype.element(*value).ok_or_else(|| {
            BatchingError(format!("input {input:?} is {spec} and cannot be padded with {value}"))
        })?;
        let axis = open_axis("input", spec, signature)?;
        let mut cut = Vec::with_capacity(outputs.len());
        for output in outputs {
            let spec = self::spec("output", &signature.outputs, output)?;
            cut.push((output.clone(), open_axis("output", spec, signature)?));
        }
        Ok(Padding { input: input.clone(), axis, element, outputs: cut })
    }

    /// The dimension along which this input may be of any length.
    pub(crate) fn axis_of(&self, input: &str) -> Option<usize> {
        (self.input == input).then_some(self.axis)
    }

    /// The length of a request.
    pub(crate) fn length(&self, request: &[Named]) -> Option<usize> {
        let input = request.iter().find(|input| input.name == self.input)?;
        input.tensor.shape().dims().get(self.axis).copied()
    }

    /// How many bytes the requests' inputs come to, each as long as the longest.
    pub(crate) fn bytes(&self, requests: &[Vec<Named>]) -> u64 {
        let longest = self.longest(requests);
        let inputs = requests.iter().flatten().filter(|input| input.name == self.input);
        let bytes = inputs.map(|input| {
            let length = input.tensor.shape().dims().get(self.axis).copied().unwrap_or(0);
            let others = input.tensor.shape().dims().iter().enumerate();
            let lines: usize =
                others.filter(|(axis, _)| *axis != self.axis).map(|(_, d)| d).product();
            let more = lines.saturating_mul(longest - length).saturating_mul(self.element.len());
            (input.tensor.data().len() as u64).saturating_add(more as u64)
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// Makes every request as long as the longest.
    pub(crate) fn pad(&self, requests: &mut [Vec<Named>]) -> Result<(), StackError> {
        let longest = self.longest(requests);
        for input in requests.iter_mut().flatten().filter(|input| input.name == self.input) {
            let mut dims = input.tensor.shape().dims().to_vec();
            let Some(length) = dims.get_mut(self.axis) else { continue };
            if *length < longest {
                *length = longest - *length;
                let shape = Shape::new(&dims).map_err(TensorError::from)?;
                let data = Buffer::from_vec(self.element.repeat(shape.elements()));
                let filler = Tensor::new(input.tensor.dtype(), shape, data)?;
                input.tensor = Tensor::stack(&[&input.tensor, &filler], self.axis)?;
            }
        }
        Ok(())
    }

    fn longest(&self, requests: &[Vec<Named>]) -> usize {
        requests.iter().filter_map(|request| self.length(request)).max().unwrap_or(0)
    }

    /// Cuts a request's outputs, as long as the `longest` of the batch, back to its own `length`.
    pub(crate) fn cut(
        &self,
        answer: &mut [Named],
        length: usize,
        longest: usize,
    ) -> Result<(), Mismatch> {
        for (name, axis) in &self.outputs {
            let Some(output) = answer.iter_mut().find(|output| output.name == *name) else {
                continue;
            };
            let got = output.tensor.shape().clone();
            let mut parts =
                output.tensor.split(*axis, &[length, longest - length]).map_err(|_| {
                    Mismatch::BatchRows { name: name.clone(), axis: *axis, wanted: longest, got }
                })?;
            output.tensor = parts.swap_remove(0);
        }
        Ok(())
    }
}

fn spec<'a>(
    kind: &str,
    specs: &'a [TensorSpec],
    name: &str,
) -> Result<&'a TensorSpec, BatchingError> {
    let found = specs.iter().find(|spec| spec.name == name);
    found.ok_or_else(|| {
        BatchingError(format!("pad names the {kind} {name:?}, which the model has not"))
    })
}

/// The one dimension of any size beside the batch axis.
fn open_axis(kind: &str, spec: &TensorSpec, signature: &Signature) -> Result<usize, BatchingError> {
    let dims = spec.shape.iter().flatten().enumerate();
    let open = dims.filter(|(axis, dim)| dim.is_none() && Some(*axis) != signature.batch_axis);
    let open: Vec<usize> = open.map(|(axis, _)| axis).collect();
    match open[..] {
        [axis] => Ok(axis),
        _ => Err(BatchingError(format!(
            "{kind} {:?} is {spec}; what is padded or cut has one open dimension beside the batch axis",
            spec.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::DType;

    use super::*;

    fn spec(name: &str, dtype: DType, shape: &[i64]) -> TensorSpec {
        let dims = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        TensorSpec { name: name.into(), dtype, shape: Some(dims), optional: false }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                spec("ids", DType::Int64, &[-1, -1]),
                spec("small", DType::Uint8, &[-1, -1, 2]),
                spec("open", DType::Fp32, &[-1, -1, -1]),
            ],
            outputs: vec![
                spec("hidden", DType::Fp32, &[-1, -1, 2]),
                spec("fixed", DType::Fp32, &[-1, 2]),
            ],
            batch_axis: Some(0),
            ..Signature::default()
        }
    }

    fn pad(input: &str, value: i64, outputs: &[&str]) -> Pad {
        let outputs = outputs.iter().map(|&output| output.to_owned()).collect();
        Pad { input: input.into(), value, outputs }
    }

    fn ids(rows: &[&[i64]]) -> Vec<Named> {
        let tensor = Tensor::from_vec(&[rows.len(), rows[0].len()], rows.concat()).unwrap();
        vec![Named { name: "ids".into(), tensor }]
    }

    #[test]
    fn lengths_are_made_one_and_cut_back() {
        let padding = Padding::new(&pad("ids", -7, &["hidden"]), &signature()).unwrap();
        let mut requests = [ids(&[&[1, 2, 3]]), ids(&[&[4], &[5]])];
        let lengths = requests.each_ref().map(|request| padding.length(request));
        assert_eq!((lengths, padding.bytes(&requests)), ([Some(3), Some(1)], 9 * 8));
        padding.pad(&mut requests).unwrap();
        assert_eq!(requests, [ids(&[&[1, 2, 3]]), ids(&[&[4, -7, -7], &[5, -7, -7]])]);

        let hidden = Tensor::from_vec(&[1, 3, 2], vec![0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let mut answer = [Named { name: "hidden".into(), tensor: hidden }];
        padding.cut(&mut answer, 2, 3).unwrap();
        assert_eq!(
            answer[0].tensor,
            Tensor::from_vec(&[1, 2, 2], vec![0f32, 1.0, 2.0, 3.0]).unwrap()
        );
        assert!(padding.cut(&mut answer, 1, 3).is_err(), "it is not as long as the longest");
    }

    #[test]
    fn what_cannot_be_padded_is_refused() {
        let check = |pad: Pad, wanted: &str| {
            let error = Padding::new(&pad, &signature()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        };
        check(pad("none", 0, &[]), "pad names the input \"none\", which the model has not");
        check(pad("small", 256, &[]), "cannot be padded with 256");
        check(pad("open", 0, &[]), "input \"open\" is FP32 [-1,-1,-1]");
        check(pad("ids", 0, &["fixed"]), "output \"fixed\" is FP32 [-1,2]");
        check(pad("ids", 0, &["none"]), "pad names the output \"none\"");
        assert!(Padding::new(&pad("small", 255, &["hidden"]), &signature()).is_ok());
    }
}
