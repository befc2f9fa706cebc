//! Operands of attention.

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, axes, result_shape};
use crate::op::{Attention, Rope};

/// Where the elements of one operand lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// From one batch, head and row to the next.
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) row: usize,
    /// The first element.
    pub(crate) start: usize,
}

impl Place {
    /// Where a row begins.
    #[inline(always)]
    pub(crate) fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        self.start + batch * self.batch + head * self.head + row * self.row
    }
}

/// Sizes and places of an attention.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    /// Neighbouring heads that share keys and values.
    pub(crate) shared: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Elements of a query and of a key.
    pub(crate) depth: usize,
    /// Elements of a value.
    pub(crate) width: usize,
    pub(crate) scale: f64,
    pub(crate) q: Place,
    pub(crate) k: Place,
    pub(crate) v: Place,
    /// The mask's strides over batch, head, query and key.
    pub(crate) mask: Option<[usize; 4]>,
    pub(crate) result: Shape,
}

const NAME: &str = "attention";

impl Plan {
    pub(crate) fn new(attention: &Attention, inputs: &[Operand<'_>]) -> Result<Plan, OpError> {
        let &Attention { heads, kv_heads, packed, mask, heads_first, .. } = attention;
        let wanted = if packed { 1 } else { 3 } + usize::from(mask);
        let &[(dtype, _), ..] = inputs else {
            return Err(invalid(NAME, format_args!("takes {wanted} operands, got none")));
        };
        if inputs.len() != wanted {
            let text = format_args!("takes {wanted} operands, got {}", inputs.len());
            return Err(invalid(NAME, text));
        }
        Class::Floating.check(NAME, dtype)?;
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let text = "kv_heads must divide heads, and neither be 0";
            return Err(invalid(NAME, format_args!("{text}; got {kv_heads} and {heads}")));
        }
        let (sequences, masks) = inputs.split_at(wanted - usize::from(mask));
        for (other, _) in sequences {
            dtypes::same(NAME, dtype, *other)?;
        }
        let mut plan = match sequences {
            [(_, x)] if !heads_first => Plan::packed(attention, x)?,
            [(_, q), (_, k), (_, v)] if heads_first => Plan::heads_first(attention, [q, k, v])?,
            [(_, q), (_, k), (_, v)] => Plan::heads_last(attention, [q, k, v])?,
            _ => return Err(invalid(NAME, "packed operands cannot have their heads first")),
        };
        plan.scale = attention.scale.unwrap_or(1.0 / (plan.depth.max(1) as f64).sqrt());
        if let [(kind, shape)] = masks {
            if *kind != DType::Bool {
                dtypes::same(NAME, dtype, *kind)?;
            }
            plan.mask = Some(plan.spread(shape)?);
        }
        Ok(plan)
    }

    fn packed(attention: &Attention, x: &Shape) -> Result<Plan, OpError> {
        let &Attention { heads, kv_heads, .. } = attention;
        let refuse = || {
            let text = "one operand must be [b,s,(heads + 2 * kv_heads) * d]";
            invalid(NAME, format_args!("{text}; got {x} for {heads} and {kv_heads} heads"))
        };
        let &[batch, rows, columns] = x.dims() else { return Err(refuse()) };
        let parts =
            kv_heads.checked_mul(2).and_then(|n| n.checked_add(heads)).ok_or_else(refuse)?;
        if !columns.is_multiple_of(parts) {
            return Err(refuse());
        }
        let depth = columns / parts;
        let place = |start| Place { batch: rows * columns, head: depth, row: columns, start };
        Ok(Plan {
            batch,
            heads,
            shared: heads / kv_heads,
            queries: rows,
            keys: rows,
            depth,
            width: depth,
            scale: 0.0,
            q: place(0),
            k: place(heads * depth),
            v: place((heads + kv_heads) * depth),
            mask: None,
            result: result_shape(NAME, &[batch, rows, heads * depth])?,
        })
    }

    fn heads_last(attention: &Attention, [q, k, v]: [&Shape; 3]) -> Result<Plan, OpError> {
        let &Attention { heads, kv_heads, .. } = attention;
        let refuse = || {
            let text =
                "operands must be q [b,s,heads*d], k [b,t,kv_heads*d] and v [b,t,kv_heads*e]";
            invalid(
                NAME,
                format_args!("{text}; got {q}, {k}, {v} for {heads} and {kv_heads} heads"),
            )
        };
        let (&[batch, queries, of_q], &[batch_k, keys, of_k], &[batch_v, keys_v, of_v]) =
            (q.dims(), k.dims(), v.dims())
        else {
            return Err(refuse());
        };
        let fits = batch == batch_k
            && batch == batch_v
            && keys == keys_v
            && of_q.is_multiple_of(heads)
            && of_k.is_multiple_of(kv_heads)
            && of_v.is_multiple_of(kv_heads)
            && of_q / heads == of_k / kv_heads;
        if !fits {
            return Err(refuse());
        }
        let (depth, width) = (of_q / heads, of_v / kv_heads);
        let place = |rows: usize, columns: usize, head| Place {
            batch: rows * columns,
            head,
            row: columns,
            start: 0,
        };
        let columns = heads.checked_mul(width).ok_or_else(refuse)?;
        Ok(Plan {
            batch,
            heads,
            shared: heads / kv_heads,
            queries,
            keys,
            depth,
            width,
            scale: 0.0,
            q: place(queries, of_q, depth),
            k: place(keys, of_k, depth),
            v: place(keys, of_v, width),
            mask: None,
            result: result_shape(NAME, &[batch, queries, columns])?,
        })
    }

    fn heads_first(attention: &Attention, [q, k, v]: [&Shape; 3]) -> Result<Plan, OpError> {
        let &Attention { heads, kv_heads, .. } = attention;
        let refuse = || {
            let text =
                "operands must be q [b,heads,s,d], k [b,kv_heads,t,d] and v [b,kv_heads,t,e]";
            invalid(
                NAME,
                format_args!("{text}; got {q}, {k}, {v} for {heads} and {kv_heads} heads"),
            )
        };
        let (&[batch, of_q, queries, depth], &[batch_k, of_k, keys, depth_k]) =
            (q.dims(), k.dims())
        else {
            return Err(refuse());
        };
        let &[batch_v, of_v, keys_v, width] = v.dims() else { return Err(refuse()) };
        let fits = (batch, batch, of_q, keys) == (batch_k, batch_v, heads, keys_v)
            && (of_k, of_v, depth) == (kv_heads, kv_heads, depth_k);
        if !fits {
            return Err(refuse());
        }
        let place = |heads: usize, rows: usize, columns: usize| Place {
            batch: heads * rows * columns,
            head: rows * columns,
            row: columns,
            start: 0,
        };
        Ok(Plan {
            batch,
            heads,
            shared: heads / kv_heads,
            queries,
            keys,
            depth,
            width,
            scale: 0.0,
            q: place(heads, queries, depth),
            k: place(kv_heads, keys, depth),
            v: place(kv_heads, keys, width),
            mask: None,
            result: result_shape(NAME, &[batch, heads, queries, width])?,
        })
    }

    /// The strides of a mask that broadcasts to [batch, heads, queries, keys].
    fn spread(&self, shape: &Shape) -> Result<[usize; 4], OpError> {
        let full = result_shape(NAME, &[self.batch, self.heads, self.queries, self.keys])?;
        let together = axes::broadcast(NAME, &[shape, &full])?;
        if together != full {
            let text = format_args!("the mask must broadcast to {full}, got {shape}");
            return Err(invalid(NAME, text));
        }
        let mut strides = [0; 4];
        let mut stride = 1;
        for (to, &dim) in strides.iter_mut().rev().zip(shape.dims().iter().rev()) {
            *to = if dim == 1 { 0 } else { stride };
            stride *= dim;
        }
        Ok(strides)
    }
}

pub(crate) fn attention(
    attention: &Attention,
    inputs: &[Operand<'_>],
) -> Result<(DType, Shape), OpError> {
    let plan = Plan::new(attention, inputs)?;
    let dtype = inputs.first().map_or(DType::Fp32, |(dtype, _)| *dtype);
    Ok((dtype, plan.result))
}

/// Sizes of a rotary embedding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) rows: usize,
    /// Elements of a head, and of those that turn.
    pub(crate) depth: usize,
    pub(crate) turned: usize,
    /// Whether heads come before rows.
    pub(crate) heads_first: bool,
    /// Whether cos and sin are the same for each batch.
    pub(crate) one_table: bool,
}

impl Turn {
    pub(crate) fn new(rope: &Rope, inputs: &[Operand<'_>]) -> Result<Turn, OpError> {
        const NAME: &str = "rope";
        let wanted = 3 + usize::from(rope.positions);
        let &[(dtype, x), (of_cos, cos), (of_sin, sin), ref rest @ ..] = inputs else {
            return Err(invalid(
                NAME,
                format_args!("takes {wanted} operands, got {}", inputs.len()),
            ));
        };
        if inputs.len() != wanted {
            return Err(invalid(
                NAME,
                format_args!("takes {wanted} operands, got {}", inputs.len()),
            ));
        }
        Class::Floating.check(NAME, dtype)?;
        dtypes::same(NAME, dtype, of_cos)?;
        dtypes::same(NAME, dtype, of_sin)?;
        let heads = rope.heads;
        let (batch, rows, depth, heads_first) = match *x.dims() {
            [batch, rows, columns] if heads > 0 && columns.is_multiple_of(heads) => {
                (batch, rows, columns / heads, false)
            }
            [batch, of_x, rows, depth] if of_x == heads => (batch, rows, depth, true),
            _ => {
                let text = "x must be [b,s,heads*d] or [b,heads,s,d]";
                return Err(invalid(NAME, format_args!("{text}; got {x} for {heads} heads")));
            }
        };
        let turned = if rope.dims == 0 { depth } else { rope.dims };
        if turned > depth || !turned.is_multiple_of(2) {
            let text = format_args!("{turned} elements of {depth} cannot turn in pairs");
            return Err(invalid(NAME, text));
        }
        let half = turned / 2;
        let fits = match (cos.dims(), rest) {
            (&[_, columns], [(_, positions)]) => {
                columns == half && positions.dims() == [batch, rows]
            }
            (&[of_rows, columns], []) => (of_rows, columns) == (rows, half),
            (&[batches, of_rows, columns], []) => {
                (batches, of_rows, columns) == (batch, rows, half)
            }
            _ => false,
        };
        if !fits || cos != sin {
            let text = "cos and sin must be [s,dims/2], [b,s,dims/2] or tables for positions [b,s]";
            return Err(invalid(NAME, format_args!("{text}; got {cos} and {sin} for x {x}")));
        }
        for (index, _) in rest {
            dtypes::index(NAME, *index)?;
        }
        let one_table = cos.rank() == 2;
        Ok(Turn { batch, heads, rows, depth, turned, heads_first, one_table })
    }
}

pub(crate) fn rope(rope: &Rope, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    Turn::new(rope, inputs)?;
    match inputs {
        [(dtype, x), ..] => Ok((*dtype, (*x).clone())),
        [] => Err(invalid("rope", "takes 3 operands, got none")),
    }
}
