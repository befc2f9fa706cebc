//! NumPy's files: one array in a `.npy`, several in a `.npz`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use innkeeper_tensor::{Buffer, DType, Shape, Tensor};
use npyz::{Endianness, NpyHeader, Order, TypeChar, TypeStr};

/// Bytes of one array: more than any server takes, and less than fills this machine.
const ARRAY_BYTES_MAX: u64 = 4 << 30;

/// The array in a `.npy` file.
pub(super) fn npy(path: &Path) -> Result<Tensor> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(BufReader::new(file)).with_context(|| format!("{} is no array", path.display()))
}

/// The arrays in a `.npz` file with their names.
pub(super) fn npz(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let doing = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(doing)?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).with_context(doing)?;
    let mut arrays = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index(index).with_context(doing)?;
        let name = entry.name().with_context(doing)?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else {
            bail!("{} holds {name:?}, which is no array", path.display());
        };
        let tensor = read(entry).with_context(|| format!("{name:?} in {}", path.display()))?;
        arrays.push((name.to_owned(), tensor));
    }
    Ok(arrays)
}

fn read(mut file: impl Read) -> Result<Tensor> {
    let header = NpyHeader::from_reader(&mut file)?;
    let npyz::DType::Plain(kind) = header.dtype() else {
        bail!("its elements are records; wanted plain numbers");
    };
    let element = element(&kind)?;
    let shape: Vec<usize> =
        header.shape().iter().map(|&size| usize::try_from(size)).collect::<Result<_, _>>()?;
    let shape = Shape::new(&shape)?;
    let wanted = shape.elements() as u64 * element.size as u64;
    if wanted > ARRAY_BYTES_MAX {
        bail!("it is {wanted} bytes long; the limit is {ARRAY_BYTES_MAX}");
    }
    let mut bytes = Vec::new();
    file.take(wanted).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < wanted {
        bail!("it ends after {} of {wanted} bytes", bytes.len());
    }
    if kind.endianness() == Endianness::Big {
        bytes.chunks_exact_mut(element.swapped).for_each(<[u8]>::reverse);
    }
    if header.order() == Order::Fortran {
        bytes = row_major(&bytes, shape.dims(), element.size);
    }
    element.tensor(shape, bytes)
}

/// How NumPy keeps an element.
struct Element {
    dtype: DType,
    /// Bytes of one.
    size: usize,
    /// Bytes of what is turned around where the byte order is the other one.
    swapped: usize,
    /// Whether it is text of 32-bit code points.
    wide_text: bool,
}

fn element(kind: &TypeStr) -> Result<Element> {
    let size = usize::try_from(kind.size_field())?;
    let dtype = match (kind.type_char(), size) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Uint, 1) => DType::Uint8,
        (TypeChar::Uint, 2) => DType::Uint16,
        (TypeChar::Uint, 4) => DType::Uint32,
        (TypeChar::Uint, 8) => DType::Uint64,
        (TypeChar::Int, 1) => DType::Int8,
        (TypeChar::Int, 2) => DType::Int16,
        (TypeChar::Int, 4) => DType::Int32,
        (TypeChar::Int, 8) => DType::Int64,
        (TypeChar::Float, 2) => DType::Fp16,
        (TypeChar::Float, 4) => DType::Fp32,
        (TypeChar::Float, 8) => DType::Fp64,
        (TypeChar::ByteStr, 1..) => {
            return Ok(Element { dtype: DType::Bytes, size, swapped: 1, wide_text: false });
        }
        (TypeChar::UnicodeStr, 1..) => {
            let size = size.checked_mul(4).context("its texts are too long")?;
            return Ok(Element { dtype: DType::Bytes, size, swapped: 4, wide_text: true });
        }
        _ => bail!("its dtype {kind:?} stands for no tensor's; wanted numbers, booleans or text"),
    };
    Ok(Element { dtype, size, swapped: size, wide_text: false })
}

impl Element {
    fn tensor(&self, shape: Shape, bytes: Vec<u8>) -> Result<Tensor> {
        if self.dtype != DType::Bytes {
            return Ok(Tensor::new(self.dtype, shape, Buffer::from_vec(bytes))?);
        }
        let texts = bytes.chunks_exact(self.size).map(|text| self.text(text));
        let texts = texts.collect::<Result<Vec<Vec<u8>>>>()?;
        Ok(Tensor::from_strings(shape.dims(), &texts)?)
    }

    /// NumPy fills texts up with zeros.
    fn text(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        if !self.wide_text {
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            return Ok(bytes[..end].to_vec());
        }
        let points = bytes.as_chunks::<4>().0.iter().map(|&point| u32::from_le_bytes(point));
        let text: Option<String> = points.map(char::from_u32).collect();
        let text = text.ok_or_else(|| anyhow!("a text in it is not Unicode"))?;
        Ok(text.trim_end_matches('\0').as_bytes().to_vec())
    }
}

/// The elements in row-major order, from column-major.
fn row_major(bytes: &[u8], dims: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    for _ in 0..bytes.len() / size.max(1) {
        let mut stride = 1;
        let mut at = 0;
        for (i, dim) in index.iter().zip(dims) {
            at += i * stride;
            stride *= dim;
        }
        out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for (i, dim) in index.iter_mut().zip(dims).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as NumPy writes it.
    fn file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&(header.len() as u16).to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        file
    }

    #[test]
    fn orders_of_bytes_and_of_dimensions() {
        let rows: Vec<u8> = [1i16, 2, 3, 4, 5, 6].iter().flat_map(|n| n.to_le_bytes()).collect();
        let columns: Vec<u8> = [1i16, 4, 2, 5, 3, 6].iter().flat_map(|n| n.to_be_bytes()).collect();
        let wanted = Tensor::from_vec(&[2, 3], vec![1i16, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(read(&file("<i2", false, "(2, 3)", &rows)[..]).unwrap(), wanted);
        assert_eq!(read(&file(">i2", true, "(2, 3)", &columns)[..]).unwrap(), wanted);
    }

    #[test]
    fn texts_lose_their_filling() {
        let wanted = Tensor::from_strings(&[2], &["ab", ""]).unwrap();
        assert_eq!(read(&file("|S3", false, "(2,)", b"ab\0\0\0\0")[..]).unwrap(), wanted);
        let wide: Vec<u8> =
            ['a', 'b', '\0', '\0'].iter().flat_map(|&c| (c as u32).to_le_bytes()).collect();
        assert_eq!(read(&file("<U2", false, "(2,)", &wide)[..]).unwrap(), wanted);
    }

    #[test]
    fn what_is_no_tensor_is_refused() {
        let cases = [
            (file("<f4", false, "(2,)", &[0; 7]), "ends after 7 of 8 bytes"),
            (file("<c8", false, "(1,)", &[0; 8]), "stands for no tensor's"),
            (file("|b1", false, "(1,)", &[2]), "0"),
            (file("<f8", false, "(4611686018427387904,)", &[]), "too large"),
            (b"nonsense".to_vec(), ""),
        ];
        for (bytes, wanted) in cases {
            let error = format!("{:#}", read(&bytes[..]).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }
}
