use std::fs;

use innkeeper_predict::{Isolation, LimitOverrides};
use tar::{EntryType, Header};

use super::*;

const LIMITS: BundleLimits = BundleLimits { component_bytes_max: 1000, asset_bytes_max: 1000 };

/// A tar made by hand, so that it can be wrong in every way.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn file(self, name: &str, data: &[u8]) -> Raw {
        self.entry(EntryType::Regular, name, data)
    }

    fn entry(mut self, kind: EntryType, name: &str, data: &[u8]) -> Raw {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o777);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn asset(name: &str, data: &[u8]) -> AssetRef {
    AssetRef { name: name.into(), digest: Digest::of(data), size: data.len() as u64 }
}

fn manifest(assets: Vec<AssetRef>) -> Manifest {
    Manifest {
        innkeeper: FORMAT,
        name: "m".into(),
        version: None,
        description: String::new(),
        component: BlobRef { digest: Digest::of(b"code"), size: 4 },
        assets,
        isolation: Isolation::Request,
        device: Device::Auto,
        limits: LimitOverrides { handles_max: Some(3), ..LimitOverrides::default() },
        batching: None,
        cache: None,
        sequences: None,
        instances: None,
        lineage: None,
    }
}

/// A good beginning: a manifest with these assets, and the component.
fn start(assets: Vec<AssetRef>) -> Raw {
    let text = manifest(assets).to_text();
    Raw::default().file(MANIFEST_ENTRY, &text).file(COMPONENT_ENTRY, b"code")
}

fn two() -> Raw {
    start(vec![asset("a", b"1"), asset("b", b"22")])
}

fn read(tar: Vec<u8>) -> Result<Bundle, BundleError> {
    Bundle::read(&tar.into(), &LIMITS)
}

#[test]
fn reads_with_and_without_assets() {
    let both = read(two().file("assets/a", b"1").file("assets/b", b"22").end()).unwrap();
    assert_eq!(both.assets, [Some(Bytes::from("1")), Some(Bytes::from("22"))]);
    assert_eq!(both.manifest.isolation, Isolation::Request);
    assert_eq!(both.manifest.limits.handles_max, Some(3));
    let one = read(two().file("assets/b", b"22").end()).unwrap();
    assert_eq!(one.assets, [None, Some(Bytes::from("22"))]);
    assert_eq!(one.digest(), both.digest(), "what is left out does not change the version");
}

#[test]
fn zeros_may_pad_a_tar() {
    let mut tar = two().end();
    tar.resize(10 * 1024, 0);
    assert!(read(tar).is_ok());
}

#[test]
fn parts_are_not_copied() {
    let tar = Bytes::from(two().file("assets/a", b"1").end());
    let bundle = Bundle::read(&tar, &LIMITS).unwrap();
    let inside = |part: &Bytes| tar.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(&bundle.component) && inside(bundle.assets[0].as_ref().unwrap()));
}

#[test]
fn bad_tars_are_refused() {
    let link = |kind| two().entry(kind, "assets/a", b"").end();
    let long = "x".repeat(94);
    let mut flipped = two().end();
    flipped[0] ^= 1;
    let rubbish = [two().end(), b"x".to_vec()].concat();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "cut off at byte 0 in a tar header"),
        (b"\x1f\x8b".repeat(600), "the block at byte 0 is no tar header"),
        (flipped, "the block at byte 0 is no tar header (its checksum is wrong)"),
        (two().0, "cut off at byte 2560 in a tar header"),
        (two().end()[..1500].to_vec(), "cut off at byte 1500 in the entry \"manifest.json\""),
        (two().end()[..3100].to_vec(), "in the two zero blocks at its end"),
        (rubbish, "is not zero; nothing may follow the tar"),
        (two().file("../a", b"1").end(), "\"../a\" leads out of the bundle"),
        (two().file("assets/../../a", b"1").end(), "leads out of the bundle"),
        (two().file("assets/..\\a", b"1").end(), "leads out of the bundle"),
        (two().file("/etc/passwd", b"1").end(), "\"/etc/passwd\" is an absolute path"),
        (link(EntryType::Symlink), "\"assets/a\" is a symbolic link"),
        (link(EntryType::Link), "\"assets/a\" is a hard link"),
        (link(EntryType::Directory), "\"assets/a\" is a directory"),
        (two().file("assets/", b"").end(), "\"assets/\" is a directory"),
        (link(EntryType::Fifo), "is a pipe"),
        (link(EntryType::Char), "is a device"),
        (link(EntryType::XHeader), "is a pax header"),
        (link(EntryType::GNULongName), "is a GNU long name"),
        (link(EntryType::new(b'?')), "is of an unknown kind"),
        (two().file("assets/a", b"1").file("assets/a", b"1").end(), "\"assets/a\" stands twice"),
        (two().file(MANIFEST_ENTRY, b"1").end(), "\"manifest.json\" stands twice"),
        (two().file(COMPONENT_ENTRY, b"code").end(), "\"component.wasm\" stands twice"),
        (two().file("assets/c", b"1").end(), "\"assets/c\" is not in the manifest"),
        (two().file("README.md", b"1").end(), "\"README.md\" is not in the manifest"),
        (
            two().file("assets/b", b"22").file("assets/a", b"1").end(),
            "wanted an asset after \"b\", got \"assets/a\"",
        ),
        (
            Raw::default().file(COMPONENT_ENTRY, b"code").end(),
            "wanted the entry \"manifest.json\", got \"component.wasm\"",
        ),
        (
            Raw::default().file(MANIFEST_ENTRY, &manifest(vec![]).to_text()).end(),
            "has no entry \"component.wasm\"",
        ),
        (Raw::default().end(), "has no entry \"manifest.json\""),
        (two().file("assets/a", b"11").end(), "assets/a has 2 bytes, the manifest says 1"),
        (two().file("assets/a", b"2").end(), "assets/a has the digest sha256:d4735e3"),
        (
            Raw::default()
                .file(MANIFEST_ENTRY, &manifest(vec![]).to_text())
                .file(COMPONENT_ENTRY, b"cod")
                .end(),
            "component.wasm has 3 bytes, the manifest says 4",
        ),
        (
            Raw::default()
                .file(MANIFEST_ENTRY, &manifest(vec![]).to_text())
                .file(COMPONENT_ENTRY, b"edoc")
                .end(),
            "component.wasm has the digest sha256:",
        ),
        (start(vec![asset(&long, b"")]).end(), "cannot name an asset"),
        (
            start(vec![asset("a", &[0; 1001])]).end(),
            "assets/a has 1001 bytes, over the limit upload_bytes_max of 1000",
        ),
        (
            Raw::default().file(MANIFEST_ENTRY, &vec![b' '; (1 << 20) + 1]).end(),
            "manifest.json has 1048577 bytes, over the limit manifest_bytes_max of 1048576",
        ),
    ];
    for (tar, wanted) in rows {
        let error = read(tar).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wanted {wanted:?}, got {error:?}");
        assert!(error.len() < 400, "{error:?} is too long");
    }
}

#[test]
fn a_size_beyond_the_end_is_no_overflow() {
    for size in [1 << 20, (8 << 30) - 1, u64::MAX / 2, u64::MAX] {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..1].copy_from_slice(b"a");
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_cksum();
        let tar = [header.as_bytes().as_slice(), &[0; 2048]].concat();
        assert!(read(tar).is_err(), "{size}");
    }
}

#[test]
fn bad_manifests_are_refused() {
    let good = String::from_utf8(manifest(vec![asset("a", b"1")]).to_text()).unwrap();
    let many = (0..1025).map(|i| asset(&format!("{i:04}"), b"")).collect();
    let described =
        |bytes| Manifest { description: "d".repeat(bytes), ..manifest(Vec::new()) }.to_text();
    let twice = manifest(vec![asset("a", b""), asset("a", b"")]);
    let swapped = manifest(vec![asset("b", b""), asset("a", b"")]);
    let text = |manifest: Manifest| String::from_utf8(manifest.to_text()).unwrap();
    let rows = [
        (String::new(), "does not read: EOF"),
        ("[".repeat(100_000), "does not read"),
        ("{}".into(), "missing field `innkeeper`"),
        (good.replace("\"innkeeper\": 1", "\"innkeeper\": 2"), "format \"innkeeper\": 2"),
        (good.replace("\"name\": \"m\"", "\"name\": \"m\", \"nmae\": 1"), "unknown field `nmae`"),
        (good.replace("\"request\"", "\"thread\""), "unknown variant `thread`"),
        (good.replace("handles_max", "handels_max"), "unknown field `handels_max`"),
        (good.replace("sha256:", "md5:"), "is not a digest"),
        (good.replace("\"size\": 1", "\"size\": -1"), "invalid value"),
        (good.replace("\"name\": \"a\"", "\"name\": \"../a\""), "\"../a\" cannot name an asset"),
        (good.replace("\"name\": \"a\"", "\"name\": \".a\""), "\".a\" cannot name an asset"),
        (good.replace("\"name\": \"a\"", "\"name\": \"\""), "\"\" cannot name an asset"),
        (text(manifest(many)), "lists 1025 assets; at most 1024"),
        (text(twice), "lists the asset \"a\" twice"),
        (String::from_utf8(described(4097)).unwrap(), "description has 4097 bytes; at most 4096"),
        (text(swapped), "lists the asset \"a\" out of order"),
    ];
    assert!(Manifest::parse(good.as_bytes()).is_ok());
    assert!(Manifest::parse(&described(4096)).is_ok());
    for (text, wanted) in rows {
        let error = Manifest::parse(text.as_bytes()).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wanted {wanted:?}, got {error:?}");
    }
}

#[test]
fn a_bare_component_gets_a_manifest() {
    let bundle = Bundle::bare("m", Bytes::from("code"), Vec::new(), &LIMITS).unwrap();
    assert_eq!(Manifest::parse(&bundle.manifest_bytes).unwrap(), bundle.manifest);
    assert_eq!(read(bundle.to_bytes()).unwrap().digest(), bundle.digest());
    let error = Bundle::bare("m", Bytes::from(vec![0; 1001]), Vec::new(), &LIMITS).unwrap_err();
    assert!(error.to_string().contains("component_bytes_max of 1000"), "{error}");
}

fn plugin() -> (tempfile::TempDir, PluginToml) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("files")).unwrap();
    fs::write(dir.path().join("files/z"), vec![7; 600]).unwrap();
    fs::write(dir.path().join("files/b"), b"").unwrap();
    let text = "name = 'm'\nversion = '2'\nlimits.deadline_ms_max = 5\n\
                [[assets]]\nname = 'z.bin'\npath = 'files/z'\n\
                [[assets]]\nname = 'b'\npath = './files/b'";
    (dir, PluginToml::parse(text).unwrap())
}

#[test]
fn what_is_packed_reads_back_and_is_always_the_same() {
    let (dir, plugin) = plugin();
    let mut tar = Vec::new();
    let packed = pack(dir.path(), &plugin, b"code", &mut tar).unwrap();
    assert_eq!(packed.bytes, tar.len() as u64);

    let bundle = read(tar.clone()).unwrap();
    assert_eq!((&bundle.manifest, bundle.digest()), (&packed.manifest, packed.digest));
    assert_eq!(bundle.to_bytes(), tar);
    let names: Vec<&str> = bundle.manifest.assets.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["b", "z.bin"]);
    assert_eq!(bundle.assets[1].as_deref(), Some([7; 600].as_slice()));

    // Another folder, other times and modes of the files, another order in the description.
    let (other, mut shuffled) = self::plugin();
    shuffled.assets.reverse();
    let file = fs::File::open(other.path().join("files/z")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(pack_to_vec(other.path(), &shuffled, b"code").unwrap(), tar);
}

#[test]
fn the_bytes_of_a_bundle_stay_the_same_over_releases() {
    let bundle = Bundle::bare("m", Bytes::from("code"), Vec::new(), &LIMITS).unwrap();
    let digest = Digest::of(&bundle.to_bytes()).to_string();
    assert_eq!(digest, "sha256:4c0d8fc45116a42354daa5526c33cb3d688a44c1081385ce480d39de238bf722");
}

#[test]
fn bad_plugins_are_refused() {
    let asset = |name: &str, path: &str| {
        format!("name = 'm'\n[[assets]]\nname = '{name}'\npath = '{path}'\n")
    };
    let rows = [
        (String::new(), "missing field `name`"),
        ("name = 'm'\nnmae = 1".into(), "unknown field `nmae`"),
        ("name = 'm'\n[limits]\nspeed = 1".into(), "unknown field `speed`"),
        ("name = 'm'\nisolation = 'none'".into(), "unknown variant `none`"),
        (format!("name = 'm'\ndescription = '{}'", "d".repeat(4097)), "description has 4097"),
        ("name = 'm'\n[instances]\nmin = 2\nmax = 1".into(), "min is 2; wanted at most 1"),
        ("name = 'm'\n[instances]\nmax = 1\n[sequences]".into(), "each sequence has an instance"),
        (asset("a b", "a"), "cannot name an asset"),
        (asset("a", "../a"), "does not stay inside the plugin's folder"),
        (asset("a", "/etc/passwd"), "does not stay inside the plugin's folder"),
        (asset("a", ""), "does not stay inside the plugin's folder"),
        (asset("a", "a") + "[[assets]]\nname = 'a'\npath = 'b'", "lists the asset \"a\" twice"),
    ];
    for (text, wanted) in rows {
        let error = PluginToml::parse(&text).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wanted {wanted:?}, got {error:?}");
    }
    let (dir, mut plugin) = plugin();
    plugin.assets[0].path = "nothing".into();
    let error = pack_to_vec(dir.path(), &plugin, b"code").unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("nothing"), "{error}");
}
