//! Writes files as old versions of the original library read them: symbol tables and contiguous arrays.

use std::collections::BTreeMap;

use innkeeper_tensor::{DType, Tensor};

use super::{Hdf5Error, SIGNATURE};

/// What a file holds.
pub enum Node {
    /// Members by name.
    Group(BTreeMap<String, Node>),
    /// Numbers.
    Array(Tensor),
}

const UNDEFINED: u64 = u64::MAX;
/// Half the children that a tree's node has place for.
const TREE_K: u16 = 16;
const SUPERBLOCK_BYTES: usize = 96;

/// The file of a group.
///
/// # Errors
/// Something has no place in such a file: BOOL, BF16 and BYTES, or over 65,535 members of one group.
pub fn write(root: &BTreeMap<String, Node>) -> Result<Vec<u8>, Hdf5Error> {
    // All members of a group stand in one leaf of its tree, so that no tree has to be balanced.
    let most = members_max(root).div_ceil(2).max(4);
    let leaf_k = u16::try_from(most).ok().filter(|k| *k <= u16::MAX / 2);
    let leaf_k = leaf_k.ok_or_else(|| Hdf5Error::new("a group with too many members"))?;
    let mut file = Writer { bytes: vec![0; SUPERBLOCK_BYTES], leaf_k };
    let header = file.group(root)?;
    let end = file.bytes.len() as u64;
    let mut superblock = SIGNATURE.to_vec();
    // Versions, and sizes of addresses and lengths.
    superblock.extend([0, 0, 0, 0, 0, 8, 8, 0]);
    superblock.extend(leaf_k.to_le_bytes());
    superblock.extend(TREE_K.to_le_bytes());
    superblock.extend(0u32.to_le_bytes());
    for address in [0, UNDEFINED, end, UNDEFINED, 0, header] {
        superblock.extend(address.to_le_bytes());
    }
    file.bytes[..superblock.len()].copy_from_slice(&superblock);
    Ok(file.bytes)
}

fn members_max(group: &BTreeMap<String, Node>) -> usize {
    let inner = group.values().map(|node| match node {
        Node::Group(group) => members_max(group),
        Node::Array(_) => 0,
    });
    inner.max().unwrap_or(0).max(group.len())
}

struct Writer {
    bytes: Vec<u8>,
    leaf_k: u16,
}

impl Writer {
    /// Appends a block; its address.
    fn add(&mut self, block: &[u8]) -> u64 {
        let address = self.bytes.len() as u64;
        self.bytes.extend_from_slice(block);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        address
    }

    fn group(&mut self, members: &BTreeMap<String, Node>) -> Result<u64, Hdf5Error> {
        // A heap begins with the empty name.
        let mut names = vec![0; 8];
        let mut entries = Vec::new();
        let mut last = 0u64;
        for (name, node) in members {
            let header = match node {
                Node::Group(members) => self.group(members)?,
                Node::Array(tensor) => self.array(tensor)?,
            };
            last = names.len() as u64;
            entries.extend(last.to_le_bytes());
            entries.extend(header.to_le_bytes());
            entries.extend([0; 24]);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            names.resize(names.len().next_multiple_of(8), 0);
        }
        let data = self.add(&names);
        let mut heap = b"HEAP\0\0\0\0".to_vec();
        // 1 says that no part of it is free.
        for field in [names.len() as u64, 1, data] {
            heap.extend(field.to_le_bytes());
        }
        let heap = self.add(&heap);
        let mut leaf = b"SNOD\x01\0".to_vec();
        leaf.extend((members.len() as u16).to_le_bytes());
        leaf.extend(entries);
        leaf.resize(8 + 2 * usize::from(self.leaf_k) * 40, 0);
        let leaf = self.add(&leaf);
        let mut tree = b"TREE\0\0".to_vec();
        tree.extend(u16::from(!members.is_empty()).to_le_bytes());
        for field in [UNDEFINED, UNDEFINED, 0, leaf, last] {
            tree.extend(field.to_le_bytes());
        }
        tree.resize(24 + 2 * usize::from(TREE_K) * 16 + 8, 0);
        let tree = self.add(&tree);
        let table = [tree.to_le_bytes(), heap.to_le_bytes()].concat();
        Ok(self.object(&[(17, table)]))
    }

    fn array(&mut self, tensor: &Tensor) -> Result<u64, Hdf5Error> {
        let dims = tensor.shape().dims();
        let mut extent = vec![1, dims.len() as u8, 0, 0, 0, 0, 0, 0];
        dims.iter().for_each(|&dim| extent.extend((dim as u64).to_le_bytes()));
        let kind = kind(tensor.dtype())?;
        let bytes = tensor.as_bytes();
        let address = if bytes.is_empty() { UNDEFINED } else { self.add(bytes) };
        let mut layout = vec![3, 1];
        layout.extend(address.to_le_bytes());
        layout.extend((bytes.len() as u64).to_le_bytes());
        // Space is allocated late, and the fill value is the default one.
        let fill = vec![2, 2, 2, 1, 0, 0, 0, 0];
        Ok(self.object(&[(1, extent), (3, kind), (5, fill), (8, layout)]))
    }

    /// A header of version 1.
    fn object(&mut self, messages: &[(u16, Vec<u8>)]) -> u64 {
        let mut body = Vec::new();
        for (kind, bytes) in messages {
            let size = bytes.len().next_multiple_of(8);
            body.extend(kind.to_le_bytes());
            body.extend((size as u16).to_le_bytes());
            body.extend([0; 4]);
            body.extend_from_slice(bytes);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let mut header = vec![1, 0];
        header.extend((messages.len() as u16).to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend((body.len() as u32).to_le_bytes());
        header.extend([0; 4]);
        header.extend(body);
        self.add(&header)
    }
}

/// The message of a type.
fn kind(dtype: DType) -> Result<Vec<u8>, Hdf5Error> {
    let float = |size: u8, sign: u8, exponent: [u8; 2], mantissa: u8, bias: u32| {
        let head = [0x11, 0x20, sign, 0, size, 0, 0, 0, 0, 0, size * 8, 0];
        let tail = [exponent[0], exponent[1], 0, mantissa];
        [&head[..], &tail, &bias.to_le_bytes()].concat()
    };
    let int = |size: u8, sign: u8| vec![0x10, sign, 0, 0, size, 0, 0, 0, 0, 0, size * 8, 0];
    Ok(match dtype {
        DType::Fp16 => float(2, 15, [10, 5], 10, 15),
        DType::Fp32 => float(4, 31, [23, 8], 23, 127),
        DType::Fp64 => float(8, 63, [52, 11], 52, 1023),
        DType::Int8 => int(1, 8),
        DType::Int16 => int(2, 8),
        DType::Int32 => int(4, 8),
        DType::Int64 => int(8, 8),
        DType::Uint8 => int(1, 0),
        DType::Uint16 => int(2, 0),
        DType::Uint32 => int(4, 0),
        DType::Uint64 => int(8, 0),
        other => return Err(Hdf5Error::new(format!("{other} has no place in such a file"))),
    })
}
