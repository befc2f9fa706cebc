//! A shape that cannot overflow.

use std::fmt;

/// The most dimensions a tensor may have.
pub const RANK_MAX: usize = 16;

/// The size of each dimension. The number of elements is known to fit: their product, at 8 bytes each, is below
/// `isize::MAX`, so no later arithmetic on it overflows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    // Ranks above 4 are rare; the common ones need no allocation.
    dims: Dims,
    elements: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Dims {
    Short { dims: [usize; 4], rank: u8 },
    Long(Box<[usize]>),
}

/// A shape that no tensor can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// More than [`RANK_MAX`] dimensions.
    #[error("a tensor has at most {RANK_MAX} dimensions, this one has {0}")]
    Rank(usize),
    /// The product of the dimensions does not fit into the address space.
    #[error("the product of the dimensions is too large")]
    Overflow,
    /// A dimension below zero.
    #[error("dimension {axis} is {size}; sizes are not negative")]
    Negative {
        /// Which dimension, from 0.
        axis: usize,
        /// What came.
        size: i64,
    },
}

impl Shape {
    /// A shape of these dimensions, in order; `&[]` is a scalar's.
    ///
    /// # Errors
    /// Too many dimensions, or too many elements.
    pub fn new(dims: &[usize]) -> Result<Shape, ShapeError> {
        if dims.len() > RANK_MAX {
            return Err(ShapeError::Rank(dims.len()));
        }
        // A zero anywhere must not hide an overflow elsewhere: views of the shape would meet it later.
        let mut product: usize = 1;
        for &dim in dims {
            product = product.checked_mul(dim.max(1)).ok_or(ShapeError::Overflow)?;
        }
        if product > (isize::MAX as usize) / 8 {
            return Err(ShapeError::Overflow);
        }
        let elements = dims.iter().product();
        let dims = if dims.len() <= 4 {
            let mut short = [0; 4];
            short[..dims.len()].copy_from_slice(dims);
            Dims::Short { dims: short, rank: dims.len() as u8 }
        } else {
            Dims::Long(dims.into())
        };
        Ok(Shape { dims, elements })
    }

    /// As [`Shape::new`], from the signed sizes that protocols carry.
    ///
    /// # Errors
    /// As [`Shape::new`], and for a negative size.
    pub fn from_i64(dims: &[i64]) -> Result<Shape, ShapeError> {
        let mut sizes = Vec::with_capacity(dims.len().min(RANK_MAX + 1));
        for (axis, &size) in dims.iter().enumerate().take(RANK_MAX + 1) {
            if size < 0 {
                return Err(ShapeError::Negative { axis, size });
            }
            sizes.push(usize::try_from(size).map_err(|_| ShapeError::Overflow)?);
        }
        if dims.len() > RANK_MAX {
            return Err(ShapeError::Rank(dims.len()));
        }
        Shape::new(&sizes)
    }

    /// The size of each dimension.
    pub fn dims(&self) -> &[usize] {
        match &self.dims {
            Dims::Short { dims, rank } => &dims[..usize::from(*rank)],
            Dims::Long(dims) => dims,
        }
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        self.dims().len()
    }

    /// How many elements there are: the product of the dimensions, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.elements
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_elements() {
        assert_eq!(Shape::new(&[]).unwrap().elements(), 1);
        assert_eq!(Shape::new(&[2, 3, 4]).unwrap().elements(), 24);
        assert_eq!(Shape::new(&[2, 0, 4]).unwrap().elements(), 0);
        assert_eq!(Shape::new(&[1, 2, 3, 4, 5]).unwrap().dims(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn refuses_what_would_overflow() {
        assert_eq!(Shape::new(&[usize::MAX, 2]), Err(ShapeError::Overflow));
        assert_eq!(Shape::new(&[0, usize::MAX, usize::MAX]), Err(ShapeError::Overflow));
        assert_eq!(Shape::new(&[1 << 62]), Err(ShapeError::Overflow));
        assert_eq!(Shape::new(&[1; 17]), Err(ShapeError::Rank(17)));
        assert_eq!(Shape::from_i64(&[3, -1]), Err(ShapeError::Negative { axis: 1, size: -1 }));
        assert_eq!(Shape::from_i64(&[i64::MAX, i64::MAX]), Err(ShapeError::Overflow));
    }

    #[test]
    fn prints_as_the_protocol_does() {
        assert_eq!(Shape::new(&[1, 16]).unwrap().to_string(), "[1,16]");
        assert_eq!(Shape::new(&[]).unwrap().to_string(), "[]");
    }
}
