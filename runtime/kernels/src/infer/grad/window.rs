//! Windows over spatial dimensions.

use innkeeper_tensor::Shape;

use crate::OpError;
use crate::error::invalid;
use crate::op::Window;

/// The most spatial dimensions that windows slide over.
pub(crate) const SPATIAL_MAX: usize = 3;

/// A window in each spatial dimension, checked against the sizes on both sides. Dimensions that are not there are 1
/// long.
#[derive(Clone, Copy)]
pub(crate) struct Slide {
    /// The operand's sizes.
    pub(crate) input: [usize; SPATIAL_MAX],
    /// How many windows there are.
    pub(crate) output: [usize; SPATIAL_MAX],
    pub(crate) kernel: [usize; SPATIAL_MAX],
    pub(crate) strides: [usize; SPATIAL_MAX],
    /// What is padded before the first element.
    pub(crate) before: [usize; SPATIAL_MAX],
    /// What is padded after the last element.
    pub(crate) after: [usize; SPATIAL_MAX],
    pub(crate) dilations: [usize; SPATIAL_MAX],
}

/// dy, x and weight of a convolution.
pub(crate) fn conv(
    op: &str,
    window: &Window,
    groups: usize,
    [dy, x, weight]: [&Shape; 3],
) -> Result<Slide, OpError> {
    let refuse = |wanted: &str| {
        let text = format_args!("{wanted}; got dy {dy}, x {x}, weight {weight}, groups {groups}");
        Err(invalid(op, text))
    };
    let ([n, m, outputs @ ..], [batch, c, sizes @ ..], [filters, depth, kernel @ ..]) =
        (dy.dims(), x.dims(), weight.dims())
    else {
        return refuse("dy must be [n,m,o..], x [n,c,i..] and weight [m,c/groups,k..]");
    };
    let fits = n == batch
        && m == filters
        && groups > 0
        && c.is_multiple_of(groups)
        && m.is_multiple_of(groups)
        && c / groups == *depth;
    if !fits {
        return refuse("dy must be [n,m,o..], x [n,c,i..] and weight [m,c/groups,k..]");
    }
    slide(op, window, kernel, outputs, sizes)
}

/// dy and x of pooling.
pub(crate) fn pool(
    op: &str,
    window: &Window,
    kernel: &[usize],
    dy: &Shape,
    x: &Shape,
) -> Result<Slide, OpError> {
    let ([n, c, outputs @ ..], [batch, channels, sizes @ ..]) = (dy.dims(), x.dims()) else {
        return Err(invalid(op, format_args!("dy and x must be [n,c,..], got {dy} and {x}")));
    };
    if (n, c) != (batch, channels) {
        return Err(invalid(op, format_args!("dy {dy} and x {x} must agree in n and c")));
    }
    slide(op, window, kernel, outputs, sizes)
}

/// A window over spatial dimensions of these sizes; how many there are is worked out.
pub(crate) fn sliding(
    op: &str,
    window: &Window,
    kernel: &[usize],
    sizes: &[usize],
) -> Result<Slide, OpError> {
    slid(op, window, kernel, None, sizes)
}

fn slide(
    op: &str,
    window: &Window,
    kernel: &[usize],
    outputs: &[usize],
    sizes: &[usize],
) -> Result<Slide, OpError> {
    slid(op, window, kernel, Some(outputs), sizes)
}

fn slid(
    op: &str,
    window: &Window,
    kernel: &[usize],
    outputs: Option<&[usize]>,
    sizes: &[usize],
) -> Result<Slide, OpError> {
    let rank = sizes.len();
    let of_outputs = outputs.map_or(rank, <[usize]>::len);
    if rank == 0 || rank > SPATIAL_MAX || kernel.len() != rank || of_outputs != rank {
        return Err(invalid(
            op,
            format_args!(
                "there must be 1 to {SPATIAL_MAX} spatial dimensions, the same for operands and \
                 kernel, got {rank}, {} and {}",
                of_outputs,
                kernel.len()
            ),
        ));
    }
    let list = |what: &str, list: &[usize], count: usize, least: usize| {
        let good = list.is_empty() || (list.len() == count && list.iter().all(|&n| n >= least));
        if good {
            return Ok(());
        }
        Err(invalid(
            op,
            format_args!("{what} must be none or {count} numbers from {least} on, got {list:?}"),
        ))
    };
    list("strides", &window.strides, rank, 1)?;
    list("dilations", &window.dilations, rank, 1)?;
    list("pads", &window.pads, 2 * rank, 0)?;
    let or = |list: &[usize], at: usize, other: usize| list.get(at).copied().unwrap_or(other);
    let mut slide = Slide {
        input: [1; SPATIAL_MAX],
        output: [1; SPATIAL_MAX],
        kernel: [1; SPATIAL_MAX],
        strides: [1; SPATIAL_MAX],
        before: [0; SPATIAL_MAX],
        after: [0; SPATIAL_MAX],
        dilations: [1; SPATIAL_MAX],
    };
    // The dimensions that are there come last, so that the innermost one is the innermost.
    for (from, to) in (SPATIAL_MAX - rank..SPATIAL_MAX).enumerate() {
        slide.input[to] = sizes[from];
        slide.kernel[to] = kernel[from];
        slide.strides[to] = or(&window.strides, from, 1);
        slide.before[to] = or(&window.pads, from, 0);
        slide.after[to] = or(&window.pads, rank + from, 0);
        slide.dilations[to] = or(&window.dilations, from, 1);
        let wanted = slide.windows(to, window.ceil);
        let given = outputs.map(|outputs| outputs[from]);
        match wanted {
            Some(wanted) if given.is_none_or(|given| given == wanted) => slide.output[to] = wanted,
            _ => return Err(miscounted(op, from, sizes[from], wanted, given)),
        }
    }
    Ok(slide)
}

fn miscounted(
    op: &str,
    dimension: usize,
    size: usize,
    wanted: Option<usize>,
    given: Option<usize>,
) -> OpError {
    let wanted = wanted.map_or_else(|| "no".to_owned(), |count| count.to_string());
    let given = given.map_or_else(String::new, |count| format!(", not the {count} of dy"));
    let text =
        format_args!("spatial dimension {dimension} of size {size} has {wanted} windows{given}");
    invalid(op, text)
}

impl Slide {
    /// How many windows a dimension has; `None` when the kernel is empty or does not fit.
    fn windows(&self, at: usize, ceil: bool) -> Option<usize> {
        let padded = self.input[at].checked_add(self.before[at])?.checked_add(self.after[at])?;
        let reach = self.kernel[at].checked_sub(1)?.checked_mul(self.dilations[at])?;
        let room = padded.checked_sub(reach.checked_add(1)?)?;
        let stride = self.strides[at];
        let count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
        // A window that began in the padding after the last element would hold nothing.
        let begins = (count - 1).checked_mul(stride)?;
        let beyond = ceil && begins >= self.input[at].checked_add(self.before[at])?;
        Some(if beyond { count - 1 } else { count })
    }

    /// Where element `tap` of window `index` lies in the operand; `None` in the padding.
    #[inline(always)]
    pub(crate) fn place(&self, at: usize, index: usize, tap: usize) -> Option<usize> {
        let place = index * self.strides[at] + tap * self.dilations[at];
        place.checked_sub(self.before[at]).filter(|&place| place < self.input[at])
    }

    /// Elements of one channel of the operand.
    pub(crate) fn plane(&self) -> usize {
        self.input.iter().product()
    }

    /// How many windows one channel has.
    pub(crate) fn count(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of one window.
    pub(crate) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }
}
