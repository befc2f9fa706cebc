//! The transformer: rows of tokens to one vector each.
//!
//! BERT's encoder (Devlin et al. 2018) with 6 layers of width 384, as distilled by Wang et al., "MiniLM" (2020), and the
//! pooling of Reimers and Gurevych, "Sentence-BERT" (2019).

use innkeeper_sdk::{Result, Tensor, Weights};

/// The width of the vectors.
pub const WIDTH: usize = 384;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;

/// What is added to the scores of tokens that are not there.
const NEVER: f32 = -1e9;

pub struct Network {
    words: Tensor,
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values, one below the other.
    qkv: Linear,
    out: Linear,
    norm1: Norm,
    widen: Linear,
    narrow: Linear,
    norm2: Norm,
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

/// Rows of tokens of one length, row after row.
pub struct Batch {
    pub tokens: Vec<i32>,
    /// How many tokens of each row are there; the others fill it up.
    pub lengths: Vec<usize>,
    /// How long all rows are.
    pub length: usize,
}

impl Network {
    pub fn open(weights: &Weights) -> Result<Network> {
        let layer = |index| Layer::open(weights, &format!("layer{index}"));
        Ok(Network {
            words: weights.tensor("words")?,
            positions: weights.tensor("positions")?,
            norm: Norm::open(weights, "norm")?,
            layers: (0..LAYERS).map(layer).collect::<Result<_>>()?,
        })
    }

    /// The vectors of the rows, `[rows, WIDTH]`, each of length 1.
    pub fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let (rows, length) = (batch.lengths.len(), batch.length);
        let tokens = Tensor::from_slice(&[rows, length], &batch.tokens)?;
        let positions = self.positions.slice(0, 0, length as i64)?;
        let mut x = self.norm.apply(&self.words.gather(&tokens, 0)?.add(&positions)?)?;
        let mask = batch.mask()?;
        for layer in &self.layers {
            x = layer.apply(&x, mask.as_ref())?;
        }
        let means = batch.shares()?.matmul(&x)?.reshape(&[-1, WIDTH as i64])?;
        let norms = means.mul(&means)?.sum(&[-1], true)?.sqrt()?;
        means.div(&norms)
    }
}

impl Layer {
    fn open(weights: &Weights, name: &str) -> Result<Layer> {
        let linear = |part| Linear::open(weights, &format!("{name}.{part}"));
        let norm = |part| Norm::open(weights, &format!("{name}.{part}"));
        Ok(Layer {
            qkv: linear("qkv")?,
            out: linear("out")?,
            norm1: norm("norm1")?,
            widen: linear("widen")?,
            narrow: linear("narrow")?,
            norm2: norm("norm2")?,
        })
    }

    fn apply(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let mixed = self.out.apply(&attention(&self.qkv.apply(x)?, mask)?)?;
        let x = self.norm1.apply(&mixed.add(x)?)?;
        let wide = self.widen.apply(&x)?.gelu()?;
        self.norm2.apply(&self.narrow.apply(&wide)?.add(&x)?)
    }
}

impl Linear {
    fn open(weights: &Weights, name: &str) -> Result<Linear> {
        Ok(Linear {
            weight: weights.tensor(&format!("{name}.weight"))?,
            bias: weights.tensor(&format!("{name}.bias"))?,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.weight, Some(&self.bias))
    }
}

impl Norm {
    fn open(weights: &Weights, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: weights.tensor(&format!("{name}.weight"))?,
            bias: weights.tensor(&format!("{name}.bias"))?,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.sub(&x.mean(&[-1], true)?)?;
        let variance = centred.mul(&centred)?.mean(&[-1], true)?;
        let unit = centred.div(&variance.add_scalar(EPSILON)?.sqrt()?)?;
        unit.mul(&self.weight)?.add(&self.bias)
    }
}

/// `[rows, length, 3 * WIDTH]` to `[rows, length, WIDTH]`: each token a mix of those that its heads look at.
fn attention(qkv: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let shape = qkv.shape();
    let (rows, length) = (shape[0] as i64, shape[1] as i64);
    let (heads, width) = (HEADS as i64, (WIDTH / HEADS) as i64);
    let split = qkv.reshape(&[rows, length, 3, heads, width])?.transpose(&[2, 0, 3, 1, 4])?;
    let part = |index| split.slice(0, index, index + 1)?.reshape(&[rows, heads, length, width]);
    let scores = part(0)?.matmul(&part(1)?.transpose(&[0, 1, 3, 2])?)?;
    let mut scores = scores.mul_scalar((width as f64).sqrt().recip())?;
    if let Some(mask) = mask {
        scores = scores.add(mask)?;
    }
    let mixed = scores.softmax(-1)?.matmul(&part(2)?)?;
    mixed.transpose(&[0, 2, 1, 3])?.reshape(&[rows, length, heads * width])
}

impl Batch {
    /// `[rows, 1, 1, length]`, added to the scores; none where all tokens are there.
    fn mask(&self) -> Result<Option<Tensor>> {
        if self.lengths.iter().all(|&length| length == self.length) {
            return Ok(None);
        }
        let mask = self.each(|length| (0.0, NEVER, length));
        Tensor::from_slice(&[self.lengths.len(), 1, 1, self.length], &mask).map(Some)
    }

    /// `[rows, 1, length]`: the share of each token in its row's mean.
    fn shares(&self) -> Result<Tensor> {
        let shares = self.each(|length| ((length as f32).recip(), 0.0, length));
        Tensor::from_slice(&[self.lengths.len(), 1, self.length], &shares)
    }

    /// For each token of each row: the first number where it is there, the second where it is not.
    fn each(&self, numbers: impl Fn(usize) -> (f32, f32, usize)) -> Vec<f32> {
        let row = |&length: &usize| {
            let (there, absent, length) = numbers(length);
            (0..self.length).map(move |index| if index < length { there } else { absent })
        };
        self.lengths.iter().flat_map(row).collect()
    }
}
