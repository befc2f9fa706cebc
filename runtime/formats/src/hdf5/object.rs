//! Objects: groups and arrays, with their attributes.

use std::collections::BTreeMap;

use innkeeper_tensor::Tensor;

use super::array::{self, Extent, Kind};
use super::fields::Fields;
use super::{Hdf5, Hdf5Error};

const DATASPACE: u16 = 1;
const LINK_INFO: u16 = 2;
const DATATYPE: u16 = 3;
const LINK: u16 = 6;
const EXTERNAL: u16 = 7;
const LAYOUT: u16 = 8;
const FILTERS: u16 = 11;
const ATTRIBUTE: u16 = 12;
const CONTINUATION: u16 = 16;
const SYMBOL_TABLE: u16 = 17;
const ATTRIBUTE_INFO: u16 = 21;

const MESSAGES_MAX: usize = 65_536;
const NAME_BYTES_MAX: usize = 1024;
const UNDEFINED: u64 = u64::MAX;

/// A group or an array.
pub struct Object<'f> {
    file: &'f Hdf5<'f>,
    messages: Vec<Message<'f>>,
}

struct Message<'f> {
    kind: u16,
    bytes: &'f [u8],
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One text or more.
    Texts(Vec<String>),
    /// Numbers.
    Numbers(Tensor),
}

impl Attribute {
    /// The one text that it is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Attribute::Texts(texts) if texts.len() == 1 => texts.first().map(String::as_str),
            _ => None,
        }
    }
}

impl<'f> Object<'f> {
    pub(super) fn read(file: &'f Hdf5<'f>, address: u64) -> Result<Object<'f>, Hdf5Error> {
        let mut fields = file.at(address)?;
        let mut messages = Vec::new();
        if fields.rest().starts_with(b"OHDR") {
            read_new(file, fields, &mut messages)?;
        } else {
            read_old(file, &mut fields, &mut messages)?;
        }
        if messages.iter().any(|message| message.kind == EXTERNAL) {
            return Err(Hdf5Error::new("an array lies in another file"));
        }
        Ok(Object { file, messages })
    }

    /// The members of a group, by name; none for an array.
    ///
    /// # Errors
    /// A part of it cannot be read, or it is of a kind that is not known.
    pub fn children(&self) -> Result<BTreeMap<String, Object<'f>>, Hdf5Error> {
        let mut found = BTreeMap::new();
        for message in &self.messages {
            match message.kind {
                SYMBOL_TABLE => {
                    let mut fields = Fields::new(message.bytes);
                    let (tree, heap) = (fields.u64()?, fields.u64()?);
                    self.symbols(tree, local_heap(self.file, heap)?, 0, &mut found)?;
                }
                LINK => {
                    let (name, address) = link(message.bytes)?;
                    found.insert(name, address);
                }
                LINK_INFO => {
                    let mut fields = Fields::new(message.bytes);
                    let flags = {
                        fields.take(1)?;
                        fields.u8()?
                    };
                    fields.take(if flags & 1 != 0 { 8 } else { 0 })?;
                    if fields.u64()? != UNDEFINED {
                        return Err(Hdf5Error::new(
                            "a group with its members in a heap; write the file with libver='earliest'",
                        ));
                    }
                }
                _ => {}
            }
        }
        (found.into_iter())
            .map(|(name, address)| Ok((name, Object::read(self.file, address)?)))
            .collect()
    }

    /// The member of a group that a path such as `a/b` leads to.
    ///
    /// # Errors
    /// As [`Object::children`].
    pub fn find(&self, path: &str) -> Result<Option<Object<'f>>, Hdf5Error> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let mut found = match names.next() {
            Some(name) => self.children()?.remove(name),
            None => return Ok(None),
        };
        for name in names {
            let Some(object) = found else { return Ok(None) };
            found = object.children()?.remove(name);
        }
        Ok(found)
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.message(LAYOUT).is_some()
    }

    /// The array's numbers.
    ///
    /// # Errors
    /// It is no array, of another type than numbers, or cannot be read.
    pub fn array(&self) -> Result<Tensor, Hdf5Error> {
        let missing = || Hdf5Error::new("an array without type, extent or layout");
        let extent = Extent::read(self.message(DATASPACE).ok_or_else(missing)?)?;
        let kind = Kind::read(self.message(DATATYPE).ok_or_else(missing)?)?;
        let layout = self.message(LAYOUT).ok_or_else(missing)?;
        array::read(self.file, &extent, &kind, layout, self.message(FILTERS))
    }

    /// An attribute.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn attribute(&self, name: &str) -> Result<Option<Attribute>, Hdf5Error> {
        for message in self.messages.iter().filter(|message| message.kind == ATTRIBUTE) {
            let [got, kind, extent, data] = attribute_parts(message.bytes)?;
            if got == name.as_bytes() {
                let (kind, extent) = (Kind::read(kind)?, Extent::read(extent)?);
                return array::attribute(self.file, &extent, &kind, data).map(Some);
            }
        }
        if let Some(bytes) = self.message(ATTRIBUTE_INFO) {
            let mut fields = Fields::new(bytes);
            let flags = {
                fields.take(1)?;
                fields.u8()?
            };
            fields.take(if flags & 1 != 0 { 2 } else { 0 })?;
            if fields.u64()? != UNDEFINED {
                return Err(Hdf5Error::new(
                    "attributes in a heap; write the file with libver='earliest'",
                ));
            }
        }
        Ok(None)
    }

    fn message(&self, kind: u16) -> Option<&'f [u8]> {
        self.messages.iter().find(|message| message.kind == kind).map(|message| message.bytes)
    }

    /// The entries of a group's tree.
    fn symbols(
        &self,
        address: u64,
        names: &[u8],
        depth: usize,
        found: &mut BTreeMap<String, u64>,
    ) -> Result<(), Hdf5Error> {
        let TreeNode { children, level } = tree_node(self.file, address, 0, 8, depth)?;
        for (_, child) in children {
            if level > 0 {
                self.symbols(child, names, depth + 1, found)?;
                continue;
            }
            let mut fields = self.file.at(child)?;
            fields.signature(b"SNOD")?;
            fields.take(2)?;
            for _ in 0..fields.u16()? {
                let (name, object) = (fields.size()?, fields.u64()?);
                if fields.u32()? == 2 {
                    return Err(Hdf5Error::new("a group with a symbolic link"));
                }
                fields.take(20)?;
                let name = names.get(name..).and_then(|name| name.split(|&byte| byte == 0).next());
                found.insert(text(name.unwrap_or(&[]))?, object);
            }
        }
        Ok(())
    }
}

/// A node of a B-tree of version 1.
pub(super) struct TreeNode<'f> {
    /// Keys and addresses.
    pub(super) children: Vec<(&'f [u8], u64)>,
    /// How many levels are below it.
    pub(super) level: u8,
}

/// Reads a node of a tree of this kind, `depth` levels below its root.
pub(super) fn tree_node<'f>(
    file: &'f Hdf5<'f>,
    address: u64,
    kind: u8,
    key_bytes: usize,
    depth: usize,
) -> Result<TreeNode<'f>, Hdf5Error> {
    const DEPTH_MAX: usize = 16;
    let mut fields = file.at(address)?;
    fields.signature(b"TREE")?;
    let (got, level, count) = (fields.u8()?, fields.u8()?, fields.u16()?);
    if got != kind || depth > DEPTH_MAX {
        return Err(Hdf5Error::new("a tree of another kind, or too deep a one"));
    }
    fields.take(16)?;
    let children = (0..count)
        .map(|_| Ok((fields.take(key_bytes)?, fields.u64()?)))
        .collect::<Result<_, _>>()?;
    Ok(TreeNode { children, level })
}

fn local_heap<'f>(file: &'f Hdf5<'f>, address: u64) -> Result<&'f [u8], Hdf5Error> {
    let mut fields = file.at(address)?;
    fields.signature(b"HEAP")?;
    fields.take(4)?;
    let size = fields.size()?;
    fields.take(8)?;
    let data = fields.u64()?;
    file.at(data)?.take(size)
}

/// A header of version 1.
fn read_old<'f>(
    file: &'f Hdf5<'f>,
    fields: &mut Fields<'f>,
    messages: &mut Vec<Message<'f>>,
) -> Result<(), Hdf5Error> {
    if fields.u8()? != 1 {
        return Err(Hdf5Error::new("there is no object where one should be"));
    }
    fields.take(7)?;
    let size = fields.u32()? as usize;
    fields.take(4)?;
    let mut blocks = vec![fields.take(size)?];
    while let Some(block) = blocks.pop() {
        let mut fields = Fields::new(block);
        while fields.rest().len() >= 8 {
            let (kind, size, flags) = (fields.u16()?, fields.u16()?, fields.u8()?);
            fields.take(3)?;
            let bytes = fields.take(usize::from(size))?;
            match kind {
                CONTINUATION => {
                    let mut fields = Fields::new(bytes);
                    let (address, size) = (fields.u64()?, fields.size()?);
                    blocks.push(file.at(address)?.take(size)?);
                }
                kind => add(messages, kind, flags, bytes)?,
            }
        }
    }
    Ok(())
}

/// A header of version 2.
fn read_new<'f>(
    file: &'f Hdf5<'f>,
    mut fields: Fields<'f>,
    messages: &mut Vec<Message<'f>>,
) -> Result<(), Hdf5Error> {
    fields.signature(b"OHDR")?;
    if fields.u8()? != 2 {
        return Err(Hdf5Error::new("an object header of another version"));
    }
    let flags = fields.u8()?;
    fields.take(if flags & 0x20 != 0 { 16 } else { 0 })?;
    fields.take(if flags & 0x10 != 0 { 4 } else { 0 })?;
    let size = fields.uint(1 << (flags & 3))?;
    let size = usize::try_from(size).map_err(|_| Hdf5Error::new("a huge object header"))?;
    let order_bytes = if flags & 4 != 0 { 2 } else { 0 };
    let mut blocks = vec![fields.take(size)?];
    while let Some(block) = blocks.pop() {
        let mut fields = Fields::new(block);
        // Less than a message's head is a gap.
        while fields.rest().len() >= 4 + order_bytes {
            let (kind, size, flags) = (fields.u8()?, fields.u16()?, fields.u8()?);
            fields.take(order_bytes)?;
            let bytes = fields.take(usize::from(size))?;
            match u16::from(kind) {
                CONTINUATION => {
                    let mut fields = Fields::new(bytes);
                    let (address, size) = (fields.u64()?, fields.size()?);
                    let mut block = file.at(address)?;
                    block.signature(b"OCHK")?;
                    // Signature and checksum are of the size.
                    blocks.push(block.take(size.saturating_sub(8))?);
                }
                kind => add(messages, kind, flags, bytes)?,
            }
        }
    }
    Ok(())
}

fn add<'f>(
    messages: &mut Vec<Message<'f>>,
    kind: u16,
    flags: u8,
    bytes: &'f [u8],
) -> Result<(), Hdf5Error> {
    const SHARED: u8 = 2;
    if flags & SHARED != 0 && matches!(kind, DATASPACE | DATATYPE | FILTERS | ATTRIBUTE) {
        return Err(Hdf5Error::new("an object with a type that is shared with others"));
    }
    if messages.len() == MESSAGES_MAX {
        return Err(Hdf5Error::new(format!("an object with over {MESSAGES_MAX} messages")));
    }
    messages.push(Message { kind, bytes });
    Ok(())
}

fn link(bytes: &[u8]) -> Result<(String, u64), Hdf5Error> {
    let mut fields = Fields::new(bytes);
    fields.take(1)?;
    let flags = fields.u8()?;
    let kind = if flags & 8 != 0 { fields.u8()? } else { 0 };
    fields.take(if flags & 4 != 0 { 8 } else { 0 })?;
    fields.take(if flags & 0x10 != 0 { 1 } else { 0 })?;
    let len = usize::try_from(fields.uint(1 << (flags & 3))?).unwrap_or(usize::MAX);
    let name = text(fields.take(len)?)?;
    match kind {
        0 => Ok((name, fields.u64()?)),
        _ => Err(Hdf5Error::new(format!("the link {name:?} into another place"))),
    }
}

/// The name, the type, the extent and the data of an attribute.
fn attribute_parts(bytes: &[u8]) -> Result<[&[u8]; 4], Hdf5Error> {
    let mut fields = Fields::new(bytes);
    let (version, flags) = (fields.u8()?, fields.u8()?);
    let sizes = [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
    if version > 1 && flags & 3 != 0 {
        return Err(Hdf5Error::new("an attribute with a type that is shared with others"));
    }
    fields.take(if version == 3 { 1 } else { 0 })?;
    let padded = |size: usize| if version == 1 { size.next_multiple_of(8) } else { size };
    let mut part = |size: usize| Ok(&fields.take(padded(size))?[..size]);
    let (name, kind, extent) = (part(sizes[0])?, part(sizes[1])?, part(sizes[2])?);
    let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
    Ok([name, kind, extent, fields.rest()])
}

fn text(bytes: &[u8]) -> Result<String, Hdf5Error> {
    let text = String::from_utf8(bytes.to_vec()).ok();
    (text.filter(|text| text.len() <= NAME_BYTES_MAX))
        .ok_or_else(|| Hdf5Error::new("a name that is no text, or a very long one"))
}
