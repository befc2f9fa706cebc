//! The transformer: rows of tokens to one vector each.
//!
//! BERT's encoder (Devlin et al. 2018) with 6 layers of width 384, as distilled by Wang et al., "MiniLM" (2020), and the
//! pooling of Reimers and Gurevych, "Sentence-BERT" (2019).

use innkeeper_sdk::layers::{Activation, Attention};
use innkeeper_sdk::{Result, Tensor, Weights};

/// The width of the vectors.
pub const WIDTH: usize = 384;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;

pub struct Network {
    words: Tensor,
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values, one below the other, so that one product makes all three.
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
        let tokens = Tensor::from_slice(&[batch.lengths.len(), batch.length], &batch.tokens)?;
        let x = self.encode(&tokens, batch.mask()?.as_ref())?;
        batch.shares()?.matmul(&x)?.reshape(&[-1, WIDTH as i64])?.lp_norm(-1, 2)
    }

    /// What the encoder makes of each token, `[rows, length, WIDTH]`: of `tokens` `[rows, length]`, and a mask that says
    /// which are there.
    pub fn encode(&self, tokens: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let positions = self.positions.slice(0, 0, tokens.shape()[1] as i64)?;
        let x = self.norm.apply(&self.words.gather(tokens, 0)?.add(&positions)?)?;
        self.layers.iter().try_fold(x, |x, layer| layer.apply(&x, mask))
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
        let qkv = self.qkv.apply(x, None, Activation::None)?;
        let mixed = qkv.attention_packed(mask, &Attention::new(HEADS))?;
        let x = self.norm1.apply(&self.out.apply(&mixed, Some(x), Activation::None)?)?;
        let wide = self.widen.apply(&x, None, Activation::Gelu)?;
        self.norm2.apply(&self.narrow.apply(&wide, Some(&x), Activation::None)?)
    }
}

impl Linear {
    fn open(weights: &Weights, name: &str) -> Result<Linear> {
        Ok(Linear {
            weight: weights.tensor(&format!("{name}.weight"))?,
            bias: weights.tensor(&format!("{name}.bias"))?,
        })
    }

    /// activation(x W^T + b + residual).
    fn apply(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        x.linear_with(&self.weight, Some(&self.bias), residual, activation)
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
        x.layer_norm(&self.weight, Some(&self.bias), -1, EPSILON)
    }
}

impl Batch {
    /// `[rows, 1, 1, length]`: which tokens are there; none where all are.
    fn mask(&self) -> Result<Option<Tensor>> {
        if self.lengths.iter().all(|&length| length == self.length) {
            return Ok(None);
        }
        let row = |&length: &usize| (0..self.length).map(move |index| index < length);
        let mask: Vec<bool> = self.lengths.iter().flat_map(row).collect();
        Tensor::from_bools(&[self.lengths.len(), 1, 1, self.length], &mask).map(Some)
    }

    /// `[rows, 1, length]`: the share of each token in its row's mean.
    fn shares(&self) -> Result<Tensor> {
        let row = |&length: &usize| {
            let share = (length as f32).recip();
            (0..self.length).map(move |index| if index < length { share } else { 0.0 })
        };
        let shares: Vec<f32> = self.lengths.iter().flat_map(row).collect();
        Tensor::from_slice(&[self.lengths.len(), 1, self.length], &shares)
    }
}
