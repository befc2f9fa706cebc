use std::collections::BTreeMap;

use innkeeper_tensor::Tensor;
use proptest::prelude::*;

use super::*;

/// Written by h5py; see `fixtures/make_keras.py`.
const ARRAYS: &[u8] = include_bytes!("../../fixtures/arrays.h5");
const LATEST: &[u8] = include_bytes!("../../fixtures/latest.h5");

fn numbers(file: &Hdf5<'_>, path: &str) -> Vec<f32> {
    let array = file.root().unwrap().find(path).unwrap().unwrap().array().unwrap();
    array.elements::<f32>().unwrap().into_owned()
}

#[test]
fn arrays_of_every_layout_are_read() {
    for bytes in [ARRAYS, LATEST] {
        let file = Hdf5::open(bytes).unwrap();
        let wanted: Vec<f32> = (0..35).map(|i| i as f32 / 2.0).collect();
        assert_eq!(numbers(&file, "plain"), wanted);
        assert_eq!(numbers(&file, "big"), wanted);
    }
    let file = Hdf5::open(ARRAYS).unwrap();
    let wanted: Vec<f32> = (0..35).map(|i| i as f32 / 2.0).collect();
    for path in ["chunked", "gzip", "shuffled", "inner/checked"] {
        assert_eq!(numbers(&file, path), wanted, "{path}");
    }
    let root = file.root().unwrap();
    assert_eq!(root.attribute("title").unwrap().unwrap().text(), Some("Größe"));
    let names = Attribute::Texts(vec!["a".to_owned(), String::new(), "ccc".to_owned()]);
    assert_eq!(root.attribute("names").unwrap(), Some(names.clone()));
    assert_eq!(root.attribute("fixed").unwrap(), Some(names));
    assert_eq!(root.attribute("nothing").unwrap(), None);
    assert!(
        matches!(root.attribute("empty").unwrap(), Some(Attribute::Numbers(t)) if t.shape().dims() == [0])
    );
    assert_eq!(root.find("many").unwrap().unwrap().children().unwrap().len(), 20);
    assert!(root.find("inner/nowhere").unwrap().is_none());
    assert!(root.find("plain").unwrap().unwrap().is_array());
    let int = root.find("int").unwrap().unwrap().array().unwrap();
    assert_eq!((int.shape().dims(), &*int.elements::<i64>().unwrap()), (&[][..], &[-5][..]));
    let error = root.find("lzf").unwrap().unwrap().array().unwrap_err();
    assert!(error.to_string().contains("filter 32000; there are gzip"), "{error}");
}

#[test]
fn what_is_written_is_read() {
    let tensor = |i: usize| Tensor::from_vec(&[2, i], vec![i as f32; 2 * i]).unwrap();
    let many = (0..200).map(|i| (format!("m{i}"), Node::Array(tensor(i)))).collect();
    let inner = BTreeMap::from([("many".to_owned(), Node::Group(many))]);
    let root = BTreeMap::from([
        ("a".to_owned(), Node::Group(inner)),
        ("b".to_owned(), Node::Group(BTreeMap::new())),
        ("c".to_owned(), Node::Array(Tensor::from_vec(&[], vec![7i64]).unwrap())),
    ]);
    let bytes = write(&root).unwrap();
    let file = Hdf5::open(&bytes).unwrap();
    let read = file.root().unwrap();
    for i in 0..200 {
        let array = read.find(&format!("a/many/m{i}")).unwrap().unwrap().array().unwrap();
        assert_eq!(array, tensor(i));
    }
    assert!(read.find("b").unwrap().unwrap().children().unwrap().is_empty());
    assert_eq!(*read.find("c").unwrap().unwrap().array().unwrap().elements::<i64>().unwrap(), [7]);
}

/// Everything that a file says, as far as it can be read.
fn walk(object: &Object<'_>, depth: usize) -> Result<(), Hdf5Error> {
    for name in ["title", "names", "fixed", "empty", "weight_names"] {
        let _ = object.attribute(name);
    }
    if object.is_array() {
        let _ = object.array();
    } else if depth < 8 {
        object.children()?.values().try_for_each(|child| walk(child, depth + 1))?;
    }
    Ok(())
}

fn read_all(bytes: &[u8]) -> Result<(), Hdf5Error> {
    walk(&Hdf5::open(bytes)?.root()?, 0)
}

#[test]
fn files_that_are_cut_off_are_refused() {
    for len in (0..ARRAYS.len() - 1).step_by(37) {
        let _ = read_all(&ARRAYS[..len]);
        assert!(len > 96 || read_all(&ARRAYS[..len]).is_err());
    }
}

#[test]
fn loops_and_sizes_from_nowhere_are_refused() {
    // A tree whose one child is itself.
    let at = ARRAYS.windows(4).position(|bytes| bytes == b"TREE").unwrap();
    let mut bytes = ARRAYS.to_vec();
    bytes[at + 5] = 1;
    bytes[at + 32..at + 40].copy_from_slice(&(at as u64).to_le_bytes());
    assert!(read_all(&bytes).is_err());
    // A whole group that holds itself.
    let group = BTreeMap::from([("a".to_owned(), Node::Group(BTreeMap::new()))]);
    let mut bytes = write(&group).unwrap();
    let root = bytes[64..72].to_vec();
    let at = bytes.windows(4).rposition(|bytes| bytes == b"SNOD").unwrap();
    bytes[at + 16..at + 24].copy_from_slice(&root);
    assert!(read_all(&bytes).is_ok());
    // An array of more elements than there is room for.
    let array = Tensor::from_vec(&[3], vec![1f32, 2.0, 3.0]).unwrap();
    let mut bytes = write(&BTreeMap::from([("a".to_owned(), Node::Array(array))])).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == [1, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    for dim in [4u64, 1 << 33, u64::MAX] {
        bytes[at + 8..at + 16].copy_from_slice(&dim.to_le_bytes());
        let file = Hdf5::open(&bytes).unwrap();
        let result = file.root().unwrap().find("a").unwrap().unwrap().array();
        assert!(result.is_err(), "{dim}");
    }
}

proptest! {
    #[test]
    fn no_damage_can_panic(latest in any::<bool>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = if latest { LATEST } else { ARRAYS }.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read_all(&bytes);
    }
}
