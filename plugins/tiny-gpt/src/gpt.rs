//! The network: GPT-2's, small (Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*), over bytes.

use innkeeper_sdk::train::{
    Embedding, Init, LayerNorm, Linear, Module, MultiHeadAttention, Parameter, Random, Var,
};
use innkeeper_sdk::{Error, Result, Tensor, Weights};

/// Every byte is a word.
pub const WORDS: usize = 256;
/// Says how many heads there are, which no weight's shape does.
pub const HEADS: &str = "heads";

/// How large a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Bytes that it looks back on.
    pub context: usize,
}

pub struct Gpt {
    words: Embedding,
    /// `[context, width]`.
    places: Parameter,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

struct Block {
    norms: [LayerNorm; 2],
    attention: MultiHeadAttention,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(size: Size, random: &mut Random) -> Result<Block> {
        Ok(Block {
            norms: [LayerNorm::new(size.width)?, LayerNorm::new(size.width)?],
            attention: MultiHeadAttention::new(size.width, size.heads, random)?,
            up: Linear::new(size.width, 4 * size.width, random)?,
            down: Linear::new(4 * size.width, size.width, random)?,
        })
    }

    fn forward(&self, x: &Var) -> Result<Var> {
        let x = x.add(&self.attention.attend_causally(&self.norms[0].forward(x)?)?)?;
        let inner = self.up.forward(&self.norms[1].forward(&x)?)?.gelu_tanh()?;
        x.add(&self.down.forward(&inner)?)
    }
}

impl Gpt {
    pub fn new(size: Size, random: &mut Random) -> Result<Gpt> {
        let words = Embedding::new(WORDS, size.width, random)?;
        let normal = Init::Normal { deviation: 0.02 };
        words.weight.set(normal.tensor(&[WORDS, size.width], random)?);
        Ok(Gpt {
            words,
            places: Parameter::new(normal.tensor(&[size.context, size.width], random)?),
            blocks: (0..size.layers).map(|_| Block::new(size, random)).collect::<Result<_>>()?,
            norm: LayerNorm::new(size.width)?,
            head: Linear::new(size.width, WORDS, random)?,
        })
    }

    /// The network with these weights, its size as they say.
    pub fn open(weights: &Weights) -> Result<Gpt> {
        let places = weights.tensor("places")?.shape();
        let heads = weights.tensor(HEADS)?.to_vec::<i64>()?.first().copied().unwrap_or(0);
        let names = weights.names()?;
        let layers = (0..).take_while(|i| names.contains(&format!("blocks.{i}.up.weight"))).count();
        let [context, width] = places[..] else {
            return Err(Error::invalid_argument("places must be [context, width]"));
        };
        let size = Size { width, layers, heads: usize::try_from(heads).unwrap_or(0), context };
        let gpt = Gpt::new(size, &mut Random::new(0))?;
        for (name, parameter) in gpt.named_parameters() {
            let tensor = weights.tensor(&name)?;
            if tensor.shape() != parameter.value().shape() {
                return Err(Error::invalid_argument(format!("{name} has another shape")));
            }
            parameter.set(tensor);
        }
        Ok(gpt)
    }

    pub fn context(&self) -> usize {
        self.places.value().shape()[0]
    }

    /// Logits `[b, s, 256]` for bytes `[b, s]`, s at most the context.
    pub fn logits(&self, bytes: &Tensor) -> Result<Var> {
        let length = bytes.shape()[1] as i64;
        let mut x = self.words.look_up(bytes)?.add(&self.places.var().slice(0, 0, length)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&self.norm.forward(&x)?)
    }
}

impl Module for Gpt {
    fn forward(&self, _: &Var) -> Result<Var> {
        Err(Error::unsupported("bytes are no values that gradients flow to; call logits"))
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let mut all = vec![
            ("words.weight".to_owned(), self.words.weight.clone()),
            ("places".to_owned(), self.places.clone()),
        ];
        let mut part = |name: &str, parameters: Vec<(String, Parameter)>| {
            all.extend(parameters.into_iter().map(|(own, p)| (format!("{name}.{own}"), p)));
        };
        for (i, block) in self.blocks.iter().enumerate() {
            part(&format!("blocks.{i}.norm1"), block.norms[0].named_parameters());
            part(&format!("blocks.{i}.norm2"), block.norms[1].named_parameters());
            part(&format!("blocks.{i}.input"), block.attention.input.named_parameters());
            part(&format!("blocks.{i}.output"), block.attention.output.named_parameters());
            part(&format!("blocks.{i}.up"), block.up.named_parameters());
            part(&format!("blocks.{i}.down"), block.down.named_parameters());
        }
        part("norm", self.norm.named_parameters());
        part("head", self.head.named_parameters());
        all
    }
}
