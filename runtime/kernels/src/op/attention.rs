//! Attention.

/// Scaled dot-product attention over `heads` heads. FP16, BF16, FP32, FP64.
///
/// Operands q `[b, s, heads * d]`, k `[b, t, kv_heads * d]`, v `[b, t, kv_heads * e]`, and with `mask` one more that
/// broadcasts to `[b, heads, s, t]`; the result, `[b, s, heads * e]`, is softmax(scale q k^T + mask) v for each head,
/// where `heads / kv_heads` neighbouring heads share one of k and v. A mask is added in q's dtype, or is BOOL and says
/// what to keep. A query that may look at nothing gets 0.
///
/// A cache of keys and values is [`Op::Concat`](crate::Op::Concat) along t of what was and what comes: with `causal`
/// the last query is the last key's, so that t may be longer than s.
///
/// ONNX Attention (opset 23); Vaswani et al. 2017, *Attention Is All You Need*; Ainslie et al. 2023, *GQA*.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of q and of the result.
    pub heads: usize,
    /// Heads of k and v; divides `heads`.
    pub kv_heads: usize,
    /// What products are multiplied by; 1 / sqrt(d) when it is not given.
    pub scale: Option<f64>,
    /// Whether a query looks only at keys that are not after it.
    pub causal: bool,
    /// Whether there is a mask.
    pub mask: bool,
    /// Whether q, k and v are one operand, `[b, s, (heads + 2 * kv_heads) * d]`, joined along the last dimension.
    pub packed: bool,
    /// Whether the heads are a dimension of their own: q `[b, heads, s, d]`, k `[b, kv_heads, t, d]`, v
    /// `[b, kv_heads, t, e]`, result `[b, heads, s, e]`. Not with `packed`.
    pub heads_first: bool,
}

/// Rotary position embedding. FP16, BF16, FP32, FP64.
///
/// Operands x `[b, s, heads * d]` or `[b, heads, s, d]`, cos and sin. Of each head the first `dims` elements, all when
/// that is 0, are pairs (x1, x2) that become (x1 cos - x2 sin, x1 sin + x2 cos); what follows them stays. cos and sin
/// are `[s, dims / 2]` or `[b, s, dims / 2]`, or with `positions` tables `[p, dims / 2]` whose row for each of
/// `[b, s]` a fourth operand (INT32 or INT64) names; a position out of range is an error at the run.
///
/// ONNX RotaryEmbedding (opset 23); Su et al. 2021, *RoFormer*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rope {
    /// Heads of x.
    pub heads: usize,
    /// How many elements of a head turn, an even number; 0 for all.
    pub dims: usize,
    /// Whether pairs are neighbours; else the first half is x1 and the second x2.
    pub interleaved: bool,
    /// Whether there are positions.
    pub positions: bool,
}
