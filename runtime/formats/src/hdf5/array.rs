//! Elements: their type, their extent, and where they lie.

use std::io::Read;

use flate2::read::ZlibDecoder;
use innkeeper_tensor::{Buffer, DType, Shape, Tensor};

use super::fields::Fields;
use super::object::{Attribute, TreeNode, tree_node};
use super::{Hdf5, Hdf5Error};

/// How many elements an array has along each dimension.
pub(super) struct Extent(Vec<u64>);

impl Extent {
    pub(super) fn read(bytes: &[u8]) -> Result<Extent, Hdf5Error> {
        let mut fields = Fields::new(bytes);
        let (version, rank, _) = (fields.u8()?, fields.u8()?, fields.u8()?);
        match version {
            1 => fields.take(5)?,
            2 if bytes.get(3) == Some(&2) => return Ok(Extent(vec![0])),
            2 => fields.take(1)?,
            other => return Err(Hdf5Error::new(format!("a dataspace of version {other}"))),
        };
        (0..rank).map(|_| fields.u64()).collect::<Result<_, _>>().map(Extent)
    }

    fn shape(&self) -> Result<Shape, Hdf5Error> {
        let dims: Vec<usize> =
            self.0.iter().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
        Shape::new(&dims).map_err(|error| Hdf5Error::new(format!("an array of {dims:?}: {error}")))
    }
}

/// What an element is.
pub(super) enum Kind {
    Number {
        dtype: DType,
        is_big_endian: bool,
    },
    /// Text of so many bytes, or less and zeros.
    Text(usize),
    /// A length, and a place in a heap.
    HeapText,
}

const HEAP_TEXT_BYTES: usize = 16;

impl Kind {
    pub(super) fn read(bytes: &[u8]) -> Result<Kind, Hdf5Error> {
        let mut fields = Fields::new(bytes);
        let (class, bits) = (fields.u8()? & 15, fields.take(3)?);
        let size = fields.u32()?;
        let is_big_endian = bits[0] & 1 != 0;
        let number = |dtype| Ok(Kind::Number { dtype, is_big_endian });
        match (class, size, bits[0] & 8 != 0) {
            (0, 1, false) => number(DType::Uint8),
            (0, 2, false) => number(DType::Uint16),
            (0, 4, false) => number(DType::Uint32),
            (0, 8, false) => number(DType::Uint64),
            (0, 1, true) => number(DType::Int8),
            (0, 2, true) => number(DType::Int16),
            (0, 4, true) => number(DType::Int32),
            (0, 8, true) => number(DType::Int64),
            (1, 2, _) => {
                // Of the two 16-bit floats, this one has a mantissa of 10 bits.
                fields.take(6)?;
                match fields.take(2)?[1] {
                    10 => number(DType::Fp16),
                    _ => Err(Hdf5Error::new("an array of floats of 16 bits that are no halves")),
                }
            }
            (1, 4, _) => number(DType::Fp32),
            (1, 8, _) => number(DType::Fp64),
            (3, size, _) => Ok(Kind::Text(size as usize)),
            // h5py's truth values: an enumeration over bytes.
            (8, 1, _) => number(DType::Uint8),
            (9, 16, _) if bits[0] & 15 == 1 => Ok(Kind::HeapText),
            (class, size, _) => {
                Err(Hdf5Error::new(format!("elements of class {class} with {size} bytes")))
            }
        }
    }
}

/// The numbers of an array.
pub(super) fn read(
    file: &Hdf5<'_>,
    extent: &Extent,
    kind: &Kind,
    layout: &[u8],
    filters: Option<&[u8]>,
) -> Result<Tensor, Hdf5Error> {
    let Kind::Number { dtype, is_big_endian } = *kind else {
        return Err(Hdf5Error::new("an array of text where numbers should be"));
    };
    let shape = extent.shape()?;
    let size = dtype.size().unwrap_or(1);
    let total = shape.elements() * size;
    file.unpack(total as u64)?;
    let filters = filters.map(read_filters).transpose()?.unwrap_or_default();
    let mut fields = Fields::new(layout);
    let (version, class) = (fields.u8()?, fields.u8()?);
    if !matches!((version, class), (3, _) | (4, 0 | 1)) {
        let problem = format!(
            "a layout of version {version}, class {class}; write the file with libver='earliest'"
        );
        return Err(Hdf5Error::new(problem));
    }
    let mut bytes = match class {
        0 => {
            let len = usize::from(fields.u16()?);
            fields.take(len)?.to_vec()
        }
        1 => {
            let (address, stored) = (fields.u64()?, fields.u64()?);
            match total {
                0 => Vec::new(),
                total if total as u64 <= stored => file.at(address)?.take(total)?.to_vec(),
                total => {
                    let problem = format!("an array of {total} bytes, of which {stored} are there");
                    return Err(Hdf5Error::new(problem));
                }
            }
        }
        2 => Chunked::read(&mut fields, extent, size)?.assemble(file, total, &filters)?,
        other => return Err(Hdf5Error::new(format!("a layout of class {other}"))),
    };
    if is_big_endian {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    Tensor::new(dtype, shape, Buffer::aligned_copy(&bytes))
        .map_err(|error| Hdf5Error::new(error.to_string()))
}

/// What an attribute with these data says.
pub(super) fn attribute(
    file: &Hdf5<'_>,
    extent: &Extent,
    kind: &Kind,
    data: &[u8],
) -> Result<Attribute, Hdf5Error> {
    let shape = extent.shape()?;
    let count = shape.elements();
    let mut fields = Fields::new(data);
    match *kind {
        Kind::Number { dtype, is_big_endian } => {
            let size = dtype.size().unwrap_or(1);
            let mut bytes = fields.take(count * size)?.to_vec();
            if is_big_endian {
                bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            let tensor = Tensor::new(dtype, shape, Buffer::aligned_copy(&bytes));
            tensor.map(Attribute::Numbers).map_err(|error| Hdf5Error::new(error.to_string()))
        }
        Kind::Text(size) => {
            if count > data.len() {
                return Err(Hdf5Error::new("an attribute runs past its end"));
            }
            let text = |_| {
                let text = fields.take(size)?;
                utf8(text.split(|&byte| byte == 0).next().unwrap_or(&[]))
            };
            (0..count).map(text).collect::<Result<_, _>>().map(Attribute::Texts)
        }
        Kind::HeapText => {
            if count > data.len() / HEAP_TEXT_BYTES {
                return Err(Hdf5Error::new("an attribute runs past its end"));
            }
            let text = |_| {
                let (len, address, index) = (fields.u32()?, fields.u64()?, fields.u32()?);
                if len == 0 {
                    return Ok(String::new());
                }
                file.unpack(u64::from(len))?;
                let object = heap_object(file, address, index)?;
                let text = object.get(..len as usize);
                utf8(text.ok_or_else(|| Hdf5Error::new("a text runs past its end"))?)
            };
            (0..count).map(text).collect::<Result<_, _>>().map(Attribute::Texts)
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Hdf5Error> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Hdf5Error::new("a text that is not UTF-8"))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn heap_object<'f>(file: &'f Hdf5<'f>, address: u64, index: u32) -> Result<&'f [u8], Hdf5Error> {
    let mut fields = file.at(address)?;
    fields.signature(b"GCOL")?;
    fields.take(4)?;
    let size = fields.size()?.saturating_sub(16);
    let mut fields = Fields::new(fields.take(size)?);
    while fields.rest().len() >= 16 {
        file.step()?;
        let got = fields.u16()?;
        fields.take(6)?;
        let size = fields.size()?;
        if got == 0 {
            break;
        }
        let object = fields.take(size)?;
        if u32::from(got) == index {
            return Ok(object);
        }
        fields.take((size.next_multiple_of(8) - size).min(fields.rest().len()))?;
    }
    Err(Hdf5Error::new(format!("a heap has no object {index}")))
}

/// What was done to a chunk's bytes when they were written.
enum Filter {
    Gzip,
    Shuffle,
    Checksum,
}

fn read_filters(bytes: &[u8]) -> Result<Vec<Filter>, Hdf5Error> {
    let mut fields = Fields::new(bytes);
    let (version, count) = (fields.u8()?, fields.u8()?);
    fields.take(if version == 1 { 6 } else { 0 })?;
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = fields.u16()?;
        let has_name = version == 1 || id >= 256;
        let name = if has_name { usize::from(fields.u16()?) } else { 0 };
        let (_, values) = (fields.u16()?, usize::from(fields.u16()?));
        fields.take(if version == 1 { name.next_multiple_of(8) } else { name })?;
        let values = if version == 1 { values.next_multiple_of(2) } else { values };
        fields.take(4 * values)?;
        filters.push(match id {
            1 => Filter::Gzip,
            2 => Filter::Shuffle,
            3 => Filter::Checksum,
            other => {
                let problem = format!("filter {other}; there are gzip, shuffle and fletcher32");
                return Err(Hdf5Error::new(problem));
            }
        });
    }
    Ok(filters)
}

/// An array in chunks.
struct Chunked {
    tree: u64,
    /// The dimensions of the array, and of a chunk.
    dims: Vec<usize>,
    chunk: Vec<usize>,
    size: usize,
    chunk_bytes: usize,
}

impl Chunked {
    fn read(fields: &mut Fields<'_>, extent: &Extent, size: usize) -> Result<Chunked, Hdf5Error> {
        let rank = usize::from(fields.u8()?);
        let tree = fields.u64()?;
        let mut chunk: Vec<usize> =
            (0..rank).map(|_| Ok(fields.u32()? as usize)).collect::<Result<_, Hdf5Error>>()?;
        let dims: Vec<usize> = extent.0.iter().map(|&dim| dim as usize).collect();
        let chunk_bytes = chunk.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let fits = chunk.pop() == Some(size) && chunk.len() == dims.len();
        match chunk_bytes {
            Some(chunk_bytes) if fits && chunk_bytes > 0 && !dims.is_empty() => {
                Ok(Chunked { tree, dims, chunk, size, chunk_bytes })
            }
            _ => Err(Hdf5Error::new(format!("chunks of {chunk:?} of an array of {dims:?}"))),
        }
    }

    fn assemble(
        &self,
        file: &Hdf5<'_>,
        total: usize,
        filters: &[Filter],
    ) -> Result<Vec<u8>, Hdf5Error> {
        let per_axis = self.dims.iter().zip(&self.chunk).map(|(dim, chunk)| dim.div_ceil(*chunk));
        // As many as there are elements at most, so that it does not overflow.
        let wanted: usize = per_axis.product();
        let mut chunks = Vec::new();
        if wanted > 0 {
            self.chunks(file, self.tree, 0, wanted, &mut chunks)?;
        }
        if chunks.len() != wanted {
            let problem =
                format!("an array of {wanted} chunks, of which {} are there", chunks.len());
            return Err(Hdf5Error::new(problem));
        }
        // A chunk may be larger than the array, and all are unpacked.
        file.unpack((wanted as u64).saturating_mul(self.chunk_bytes as u64))?;
        let mut bytes = vec![0; total];
        for chunk in &chunks {
            let unpacked = self.unpack(file, chunk, filters)?;
            self.place(&unpacked, &chunk.origin, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn chunks(
        &self,
        file: &Hdf5<'_>,
        node: u64,
        depth: usize,
        max: usize,
        into: &mut Vec<Chunk>,
    ) -> Result<(), Hdf5Error> {
        let TreeNode { children, level } =
            tree_node(file, node, 1, 16 + 8 * self.dims.len(), depth)?;
        for (key, address) in children {
            if level > 0 {
                self.chunks(file, address, depth + 1, max, into)?;
                continue;
            }
            let mut key = Fields::new(key);
            let (bytes, mask) = (key.u32()? as usize, key.u32()?);
            let origin = (0..self.dims.len()).map(|_| key.size()).collect::<Result<_, _>>()?;
            if into.len() == max {
                return Err(Hdf5Error::new("an array with too many chunks"));
            }
            into.push(Chunk { address, bytes, mask, origin });
        }
        Ok(())
    }

    fn unpack(
        &self,
        file: &Hdf5<'_>,
        chunk: &Chunk,
        filters: &[Filter],
    ) -> Result<Vec<u8>, Hdf5Error> {
        let mut bytes = file.at(chunk.address)?.take(chunk.bytes)?.to_vec();
        for (place, filter) in filters.iter().enumerate().rev() {
            if chunk.mask >> place.min(31) & 1 != 0 {
                continue;
            }
            bytes = match filter {
                Filter::Checksum => {
                    bytes.truncate(bytes.len().saturating_sub(4));
                    bytes
                }
                Filter::Shuffle => unshuffled(&bytes, self.size),
                Filter::Gzip => {
                    let mut unpacked = Vec::new();
                    // A checksum may be under the compression.
                    let max = self.chunk_bytes as u64 + 5;
                    (ZlibDecoder::new(&bytes[..]).take(max).read_to_end(&mut unpacked))
                        .map_err(|error| Hdf5Error::new(format!("a chunk: {error}")))?;
                    unpacked
                }
            };
        }
        match bytes.len() == self.chunk_bytes {
            true => Ok(bytes),
            false => {
                let (got, wanted) = (bytes.len(), self.chunk_bytes);
                Err(Hdf5Error::new(format!("a chunk of {got} bytes instead of {wanted}")))
            }
        }
    }

    /// Copies a chunk's rows to their places; what is over the array's edge is left out.
    fn place(&self, chunk: &[u8], origin: &[usize], into: &mut [u8]) -> Result<(), Hdf5Error> {
        let outside = || Hdf5Error::new("a chunk outside of its array");
        let ranges: Vec<usize> = (origin.iter().zip(&self.dims).zip(&self.chunk))
            .map(|((&origin, &dim), &chunk)| match origin % chunk {
                0 if origin < dim => Ok(chunk.min(dim - origin)),
                _ => Err(outside()),
            })
            .collect::<Result<_, _>>()?;
        let (Some(&row), last) = (ranges.last(), ranges.len() - 1) else { return Err(outside()) };
        let rows: usize = ranges[..last].iter().product();
        for mut number in 0..rows {
            let mut at = vec![0; ranges.len()];
            for axis in (0..last).rev() {
                at[axis] = number % ranges[axis];
                number /= ranges[axis];
            }
            let flat = |dims: &[usize], origin: &dyn Fn(usize) -> usize| {
                dims.iter()
                    .enumerate()
                    .fold(0, |sum, (axis, dim)| sum * dim + origin(axis) + at[axis])
            };
            let from = flat(&self.chunk, &|_| 0) * self.size;
            let to = flat(&self.dims, &|axis| origin[axis]) * self.size;
            let bytes = row * self.size;
            into[to..to + bytes].copy_from_slice(&chunk[from..from + bytes]);
        }
        Ok(())
    }
}

struct Chunk {
    address: u64,
    bytes: usize,
    mask: u32,
    origin: Vec<usize>,
}

/// Bytes of which first all first bytes of the elements lie together, then all second ones, ...
fn unshuffled(bytes: &[u8], size: usize) -> Vec<u8> {
    let count = bytes.len() / size;
    let mut straight = bytes.to_vec();
    for (at, byte) in bytes[..count * size].iter().enumerate() {
        straight[at % count * size + at / count] = *byte;
    }
    straight
}
