//! Bytes behind a tensor, shared and read-only.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::Element;

/// A read-only run of bytes. A clone or a [`slice`](Buffer::slice) shares them, whoever owns them: a vector, an HTTP
/// body, a mapped file.
#[derive(Clone)]
pub struct Buffer {
    owner: Arc<dyn Owner>,
    range: Range<usize>,
}

/// Bytes that lie where the host cannot read them, such as on an accelerator or in a code, until they are fetched.
///
/// What lies there is what [`Tensor::new`](crate::Tensor::new) would accept: whoever made it vouches that a BOOL is 0 or 1.
pub trait Remote: Any + Send + Sync {
    /// How many bytes there are.
    fn byte_length(&self) -> usize;

    /// The bytes, brought here at the first call and kept. It may wait for work that makes them.
    ///
    /// # Errors
    /// They could not be brought here.
    fn fetch(&self) -> Result<&[u8], FetchError>;

    /// Bytes of this machine's memory that were taken to serve readers, and are kept.
    fn kept_bytes(&self) -> usize {
        0
    }
}

/// Bytes that lie elsewhere could not be brought here; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Whoever keeps the bytes.
trait Owner: Any + Send + Sync {
    fn bytes(&self) -> &[u8];

    fn remote(&self) -> Option<&Arc<dyn Remote>> {
        None
    }
}

struct Elsewhere(Arc<dyn Remote>);

impl Owner for Elsewhere {
    fn bytes(&self) -> &[u8] {
        self.0.fetch().unwrap_or(&[])
    }

    fn remote(&self) -> Option<&Arc<dyn Remote>> {
        Some(&self.0)
    }
}

impl<T: AsRef<[u8]> + Any + Send + Sync> Owner for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

struct Owned<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Buffer {
    /// The elements' bytes, without a copy.
    pub fn from_vec<T: Element>(elements: Vec<T>) -> Buffer {
        Buffer::shared(Arc::new(Owned(elements)))
    }

    /// Bytes that somebody else owns, without a copy.
    ///
    /// What `owner` gives as its bytes must be the same at every call.
    pub fn shared(owner: Arc<impl AsRef<[u8]> + Any + Send + Sync>) -> Buffer {
        let len = (*owner).as_ref().len();
        Buffer { owner, range: 0..len }
    }

    /// Bytes that lie elsewhere. [`Buffer::as_bytes`] fetches them, which may wait, and gives none when that fails:
    /// whoever is to read them calls [`Buffer::fetch`] first.
    pub fn remote(owner: Arc<dyn Remote>) -> Buffer {
        let len = owner.byte_length();
        Buffer { owner: Arc::new(Elsewhere(owner)), range: 0..len }
    }

    /// Whether the bytes lie elsewhere, fetched or not.
    pub fn is_remote(&self) -> bool {
        (*self.owner).remote().is_some()
    }

    /// The owner of bytes that lie elsewhere, when it is an `R`, and which of its bytes these are.
    pub fn remote_owner<R: Remote>(&self) -> Option<(Arc<R>, Range<usize>)> {
        let owner: Arc<dyn Any + Send + Sync> = (*self.owner).remote()?.clone();
        Some((owner.downcast().ok()?, self.range.clone()))
    }

    /// Brings bytes that lie elsewhere here, so that reading them neither waits nor fails.
    ///
    /// # Errors
    /// They could not be brought.
    pub fn fetch(&self) -> Result<(), FetchError> {
        match (*self.owner).remote() {
            Some(remote) => remote.fetch().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Bytes of memory that were taken to serve readers of bytes that lie elsewhere, and are kept.
    pub fn kept_bytes(&self) -> usize {
        (*self.owner).remote().map_or(0, |remote| remote.kept_bytes())
    }

    /// The vector that [`Buffer::from_vec`] took, when nobody else holds these bytes: for using its memory again.
    pub fn into_vec<T: Element>(self) -> Option<Vec<T>> {
        let owner: Arc<dyn Any + Send + Sync> = self.owner;
        let owned = owner.downcast::<Owned<T>>().ok()?;
        Arc::try_unwrap(owned).ok().map(|owned| owned.0)
    }

    /// [`Buffer::into_vec`], giving the buffer back where somebody else holds the bytes too, or where it is a part of
    /// the vector, or of another type.
    ///
    /// # Errors
    /// The buffer itself.
    pub fn try_into_vec<T: Element>(self) -> Result<Vec<T>, Buffer> {
        if !self.is_sole_vec::<T>() {
            return Err(self);
        }
        // Nobody can get hold of the bytes while this is the one reference to them, so that there is a vector.
        Ok(self.into_vec().unwrap_or_default())
    }

    /// Whether [`Buffer::try_into_vec`] would give a vector: while nobody makes another reference, it will.
    pub fn is_sole_vec<T: Element>(&self) -> bool {
        let owner: &dyn Any = &*self.owner;
        let whole = owner
            .downcast_ref::<Owned<T>>()
            .is_some_and(|Owned(elements)| self.range == (0..size_of_val(&elements[..])));
        whole && Arc::strong_count(&self.owner) == 1
    }

    /// `len` bytes that are aligned for every dtype, zero but for what `fill` writes.
    pub fn aligned(len: usize, fill: impl FnOnce(&mut [u8])) -> Buffer {
        let mut words = vec![0u64; len.div_ceil(8)];
        fill(&mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..len]);
        let mut buffer = Buffer::from_vec(words);
        buffer.range.end = len;
        buffer
    }

    /// A copy of `bytes` that is aligned for every dtype.
    pub fn aligned_copy(bytes: &[u8]) -> Buffer {
        Buffer::aligned(bytes.len(), |into| into.copy_from_slice(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // An owner that broke its promise must cost no more than wrong numbers.
        (*self.owner).bytes().get(self.range.clone()).unwrap_or(&[])
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of it, sharing the bytes; `None` when the range is not inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Buffer> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Buffer { owner: Arc::clone(&self.owner), range: start..start + range.len() })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_and_stay_inside() {
        let buffer = Buffer::from_vec(vec![1u16, 2, 3]);
        assert_eq!(buffer.slice(2..4).unwrap().as_bytes(), [2, 0]);
        assert_eq!(buffer.slice(2..6).unwrap().slice(2..4).unwrap().as_bytes(), [3, 0]);
        assert!(buffer.slice(2..7).is_none());
        assert!(buffer.slice(6..6).unwrap().is_empty());
    }

    #[test]
    fn a_vector_comes_back_from_its_last_holder() {
        let buffer = Buffer::from_vec(vec![1f32, 2.0]);
        let other = buffer.clone();
        assert!(buffer.into_vec::<f32>().is_none());
        assert!(other.clone().into_vec::<i32>().is_none());
        assert_eq!(other.into_vec::<f32>().unwrap(), [1.0, 2.0]);
    }

    struct Far(std::sync::OnceLock<Vec<u8>>, bool);

    impl Remote for Far {
        fn byte_length(&self) -> usize {
            4
        }

        fn fetch(&self) -> Result<&[u8], FetchError> {
            match self.1 {
                true => Ok(self.0.get_or_init(|| vec![1, 2, 3, 4])),
                false => Err(FetchError("the device is gone".to_owned())),
            }
        }
    }

    #[test]
    fn remote_bytes_come_when_they_are_read() {
        let far = Arc::new(Far(Default::default(), true));
        let buffer = Buffer::remote(far.clone());
        assert!(buffer.is_remote() && buffer.len() == 4 && far.0.get().is_none());
        let part = buffer.slice(1..3).unwrap();
        assert_eq!(part.remote_owner::<Far>().unwrap().1, 1..3);
        assert!(far.0.get().is_none());
        part.fetch().unwrap();
        assert!(far.0.get().is_some());
        assert_eq!(part.as_bytes(), [2, 3]);
    }

    #[test]
    fn remote_bytes_that_cannot_come_are_an_error() {
        let buffer = Buffer::remote(Arc::new(Far(Default::default(), false)));
        assert_eq!(buffer.fetch(), Err(FetchError("the device is gone".to_owned())));
        assert!(buffer.as_bytes().is_empty());
        assert!(Buffer::from_vec(vec![1u8]).remote_owner::<Far>().is_none());
    }

    #[test]
    fn an_aligned_copy_has_the_same_bytes() {
        for len in [0, 1, 7, 8, 9, 100] {
            let bytes: Vec<u8> = (0..len).collect();
            let copy = Buffer::aligned_copy(&bytes);
            assert_eq!(copy.as_bytes(), bytes);
            assert_eq!(copy.as_bytes().as_ptr() as usize % 8, 0);
        }
    }
}
