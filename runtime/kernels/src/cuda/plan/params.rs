//! A kernel's one parameter: a struct whose members are written here in the order and with the alignment of C.

use crate::cuda::plan::Slot;

/// The bytes of a struct, and where in them addresses belong that are known only when the work is given out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Params {
    bytes: Vec<u8>,
    addresses: Vec<(usize, Slot, u64)>,
}

impl Params {
    pub(crate) fn new() -> Params {
        Params::default()
    }

    /// The address of a slot.
    pub(crate) fn at(self, slot: Slot) -> Params {
        self.at_byte(slot, 0)
    }

    /// An address inside a slot.
    pub(crate) fn at_byte(mut self, slot: Slot, byte: u64) -> Params {
        self = self.u64(0);
        self.addresses.push((self.bytes.len() - 8, slot, byte));
        self
    }

    /// The address of a slot, or none.
    pub(crate) fn maybe(self, slot: Option<Slot>) -> Params {
        match slot {
            Some(slot) => self.at(slot),
            None => self.u64(0),
        }
    }

    pub(crate) fn u64(self, value: u64) -> Params {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Params {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Params {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn f32(self, value: f32) -> Params {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn f64(self, value: f64) -> Params {
        self.put(&value.to_le_bytes())
    }

    /// A member that is as large as its alignment.
    fn put(mut self, value: &[u8]) -> Params {
        let aligned = self.bytes.len().next_multiple_of(value.len());
        self.bytes.resize(aligned, 0);
        self.bytes.extend_from_slice(value);
        self
    }

    /// The struct with its addresses in place, as long as C makes it.
    pub(crate) fn bound(&self, address: impl Fn(Slot) -> u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        for &(at, slot, byte) in &self.addresses {
            let value = address(slot).wrapping_add(byte).to_le_bytes();
            if let Some(place) = bytes.get_mut(at..at + 8) {
                place.copy_from_slice(&value);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_as_c_aligns_them() {
        let params = Params::new().u32(1).u64(2).u32(3).f32(0.0).u32(4);
        assert_eq!(params.bound(|_| 0).len(), 32);
        let params = Params::new().at_byte(Slot::Input(0), 8).u32(9).at(Slot::Output(0));
        let bytes = params.bound(|slot| if slot == Slot::Input(0) { 0x100 } else { 0x200 });
        assert_eq!(bytes[..8], 0x108u64.to_le_bytes());
        assert_eq!(bytes[8..12], 9u32.to_le_bytes());
        assert_eq!(bytes[16..24], 0x200u64.to_le_bytes());
    }
}
