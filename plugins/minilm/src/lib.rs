//! Turns sentences into vectors that lie close together where the sentences mean the same: all-MiniLM-L6-v2.
//!
//! Text is cut into word pieces here, in the guest; the network runs on the host's tensors.

mod network;
mod tokenizer;

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};

use network::{Batch, Network, WIDTH};
use tokenizer::Tokenizer;

/// What of a text counts, as the model was trained; the rest of it is left out.
pub const TOKENS_MAX: usize = 256;
/// How many sentences go through the network at once.
const ROWS_MAX: usize = 32;

pub struct MiniLm {
    tokenizer: Tokenizer,
    network: Network,
}

#[innkeeper_sdk::model]
impl Model for MiniLm {
    fn load(assets: &Assets) -> Result<Self> {
        Ok(MiniLm {
            tokenizer: Tokenizer::new(&assets.read_to_string("vocab.txt")?)?,
            network: Network::open(&assets.weights("weights.safetensors"))?,
        })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("TEXT", DType::Bytes, &[-1])
            .output("EMBEDDING", DType::Fp32, &[-1, WIDTH as i64])
            .batch_axis(0)
            .property("task", "text-embedding")
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let texts = inputs.tensor("TEXT")?.to_strings()?;
        let rows: Vec<Vec<i32>> = texts.iter().map(|text| self.tokens(text)).collect();
        Ok(Outputs::new().with("EMBEDDING", self.embed(&rows)?))
    }
}

impl MiniLm {
    /// The numbers of the text's word pieces.
    pub fn tokens(&self, text: &str) -> Vec<i32> {
        self.tokenizer.tokens(text, TOKENS_MAX)
    }

    /// The vectors of rows of tokens, in the order of the rows. Rows of like length go through the network together.
    pub fn embed(&self, rows: &[Vec<i32>]) -> Result<Tensor> {
        if rows.is_empty() {
            return Tensor::full(DType::Fp32, &[0, WIDTH], 0.0);
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| rows[row].len());
        let batches = order.chunk_by(|&a, &b| alike(rows[a].len(), rows[b].len()));
        let batches = batches.flat_map(|batch| batch.chunks(ROWS_MAX));
        let parts = batches.map(|batch| self.network.embed(&padded(rows, batch)));
        let parts = parts.collect::<Result<Vec<Tensor>>>()?;
        let sorted = match parts.as_slice() {
            [only] => only.share()?,
            parts => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?,
        };
        if order.is_sorted() {
            return Ok(sorted);
        }
        let mut places = vec![0i32; rows.len()];
        for (place, &row) in (0..).zip(&order) {
            places[row] = place;
        }
        sorted.gather(&Tensor::from_slice(&[rows.len()], &places)?, 0)
    }
}

/// Whether filling a row up to the length of the next costs little.
fn alike(shorter: usize, longer: usize) -> bool {
    longer <= shorter + shorter / 4
}

/// The chosen rows, which come in the order of their lengths, filled up to the last one's.
fn padded(rows: &[Vec<i32>], chosen: &[usize]) -> Batch {
    let lengths: Vec<usize> = chosen.iter().map(|&row| rows[row].len()).collect();
    let length = lengths.last().copied().unwrap_or(0);
    let row = |&row: &usize| rows[row].iter().copied().chain(std::iter::repeat(0)).take(length);
    Batch { tokens: chosen.iter().flat_map(row).collect(), lengths, length }
}
