//! Uploads in pieces.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{Bench, UPLOADS, name, outcome};
use crate::{CatalogError, Digest, UploadId, UploadLimits};

impl Bench {
    async fn begin(&self, tenant: &str) -> UploadId {
        self.catalog.begin_upload(&name(tenant), &UPLOADS).await.expect("an upload")
    }

    async fn append(
        &self,
        id: &UploadId,
        offset: u64,
        bytes: &'static [u8],
    ) -> Result<u64, CatalogError> {
        let chunk = Bytes::from_static(bytes);
        self.catalog.append(&name("acme"), id, offset, chunk, &UPLOADS).await
    }

    async fn offset(&self, id: &UploadId) -> u64 {
        self.catalog.upload_offset(&name("acme"), id).await.expect("the offset")
    }

    async fn finish(&self, id: &UploadId, bytes: &[u8]) -> Result<u64, CatalogError> {
        self.catalog.finish_upload(&name("acme"), id, &Digest::of(bytes)).await
    }

    fn upload_file(&self, id: &UploadId) -> PathBuf {
        self.dir.path().join("uploads").join(id.as_str())
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stopped() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    let rows: [(u64, &'static [u8], &str, u64); 8] = [
        (1, b"ab", "offset 0 1", 0),
        (0, b"ab", "ok", 2),
        (0, b"ab", "offset 2 0", 2),
        (3, b"cd", "offset 2 3", 2),
        (u64::MAX, b"cd", "offset 2 18446744073709551615", 2),
        (2, b"", "ok", 2),
        (2, b"cd", "ok", 4),
        (2, b"cd", "offset 4 2", 4),
    ];
    for (offset, bytes, wanted, after) in rows {
        assert_eq!(outcome(bench.append(&id, offset, bytes).await), wanted, "at {offset}");
        assert_eq!(bench.offset(&id).await, after);
    }
    let bench = bench.reopened().await;
    assert_eq!(bench.offset(&id).await, 4);
    bench.append(&id, 4, b"ef").await.expect("appended");
    assert_eq!(bench.stored("acme").await, 6, "bytes count before the upload is finished");
    assert_eq!(outcome(bench.finish(&id, b"abcde").await), "wrong digest");
    assert_eq!(bench.offset(&id).await, 6, "a wrong digest ends nothing");
    assert_eq!(bench.finish(&id, b"abcdef").await.expect("finished"), 6);
    let blob = Digest::of(b"abcdef");
    assert_eq!(bench.catalog.blob(&blob).await.expect("the blob"), "abcdef");
    assert_eq!(bench.files(), [blob.hex()]);
    let usage = bench.catalog.usage(&name("acme")).await.expect("usage");
    assert_eq!((usage.stored_bytes, usage.uploads), (6, 0));
    assert_eq!(outcome(bench.finish(&id, b"abcdef").await), "ok", "once more, for a lost answer");
    assert_eq!(outcome(bench.finish(&id, b"else").await), "not found");
    assert_eq!(outcome(bench.append(&id, 6, b"g").await), "not found");
}

#[tokio::test]
async fn an_upload_may_be_empty_or_known() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    assert_eq!(bench.finish(&id, b"").await.expect("finished"), 0);
    assert_eq!(bench.catalog.blob(&Digest::of(b"")).await.expect("the blob"), "");

    bench.put("acme", b"known").await;
    let id = bench.begin("acme").await;
    bench.append(&id, 0, b"known").await.expect("appended");
    assert_eq!(bench.stored("acme").await, 10);
    bench.finish(&id, b"known").await.expect("finished");
    assert_eq!(bench.stored("acme").await, 5);
    assert_eq!(bench.files().len(), 2);
}

#[tokio::test]
async fn uploads_have_limits() {
    let bench = Bench::new().await;
    let ids = [bench.begin("acme").await, bench.begin("acme").await, bench.begin("acme").await];
    let fourth = bench.catalog.begin_upload(&name("acme"), &UPLOADS).await;
    assert_eq!(outcome(fourth), "uploads_max 3 4");
    assert_eq!(outcome(bench.catalog.begin_upload(&name("zeta"), &UPLOADS).await), "ok");
    assert_eq!(outcome(bench.catalog.begin_upload(&name("nobody"), &UPLOADS).await), "not found");
    let rows: [(usize, u64, &'static [u8], &str); 6] = [
        (0, 0, &[0; 501], "upload_bytes_max 500 501"),
        (0, 0, &[0; 500], "ok"),
        (0, 500, &[0; 1], "upload_bytes_max 500 501"),
        (1, 0, &[0; 400], "ok"),
        (2, 0, &[0; 101], "stored_bytes_max 1000 1001"),
        (2, 0, &[0; 100], "ok"),
    ];
    for (upload, offset, bytes, wanted) in rows {
        assert_eq!(outcome(bench.append(&ids[upload], offset, bytes).await), wanted);
    }
    assert_eq!(bench.stored("acme").await, 1000);
    bench.catalog.cancel_upload(&name("acme"), &ids[0]).await.expect("cancelled");
    assert_eq!(bench.stored("acme").await, 500);
    bench.begin("acme").await;
    assert_eq!(bench.files().len(), 2, "a cancelled upload leaves no file");
    assert_eq!(outcome(bench.append(&ids[0], 500, b"a").await), "not found");
}

#[tokio::test]
async fn the_limit_holds_for_many_uploads_at_once() {
    let bench = Bench::new().await;
    let limits = UploadLimits { uploads_max: 20, stored_bytes_max: 100, upload_bytes_max: 10 };
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let catalog = bench.catalog.clone();
        tasks.push(tokio::spawn(async move {
            let id = catalog.begin_upload(&name("acme"), &limits).await.expect("an upload");
            catalog.append(&name("acme"), &id, 0, Bytes::from_static(&[7; 10]), &limits).await
        }));
    }
    let mut stored = 0;
    for task in tasks {
        stored += u64::from(task.await.expect("no panic").is_ok());
    }
    assert_eq!((stored, bench.stored("acme").await), (10, 100));
}

#[tokio::test]
async fn one_of_two_appends_at_an_offset_wins() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    let (one, two) = tokio::join!(bench.append(&id, 0, b"aaaa"), bench.append(&id, 0, b"bb"));
    let mut outcomes = [outcome(one), outcome(two)];
    outcomes.sort();
    assert_eq!(outcomes[1], "ok");
    let offset = bench.offset(&id).await;
    assert_eq!(outcomes[0], format!("offset {offset} 0"));
    let bytes: &[u8] = if offset == 4 { b"aaaa" } else { b"bb" };
    bench.finish(&id, bytes).await.expect("nothing of the loser is in the file");
}

#[tokio::test]
async fn an_append_ends_even_if_nobody_waits_for_it() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    assert!(bench.append(&id, 0, b"abc").now_or_never().is_none(), "the client is gone");
    // Whichever comes first, the file holds one of them whole.
    let _ = bench.append(&id, 0, b"xyz").await;
    assert_eq!(bench.offset(&id).await, 3);
    let held = fs::read(bench.upload_file(&id)).expect("the file");
    assert!(held == b"abc" || held == b"xyz", "{held:?}");
}

#[tokio::test]
async fn an_upload_is_its_tenants_alone() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    bench.append(&id, 0, b"secret").await.expect("appended");
    let (catalog, zeta, digest) = (&bench.catalog, name("zeta"), Digest::of(b"secret"));
    for outcome in [
        outcome(catalog.upload_offset(&zeta, &id).await),
        outcome(catalog.append(&zeta, &id, 6, Bytes::from_static(b"!"), &UPLOADS).await),
        outcome(catalog.finish_upload(&zeta, &id, &digest).await),
        outcome(catalog.cancel_upload(&zeta, &id).await),
    ] {
        assert_eq!(outcome, "not found");
    }
    assert_eq!(bench.finish(&id, b"secret").await.expect("finished"), 6);
    assert_eq!(outcome(catalog.finish_upload(&zeta, &id, &digest).await), "not found");
}

#[tokio::test]
async fn the_file_follows_the_row() {
    // what is in the file at the start, where the upload goes on
    let rows: [(&str, Option<&[u8]>, u64); 5] = [
        ("as it was left", Some(b"abcd"), 4),
        ("more than acknowledged", Some(b"abcdef"), 4),
        ("garbage beyond, as after a power loss", Some(b"abcd\0\0\0\0\0\0"), 4),
        ("lost bytes", Some(b"ab"), 2),
        ("lost altogether", None, 0),
    ];
    for (what, found, goes_on) in rows {
        let bench = Bench::new().await;
        let id = bench.begin("acme").await;
        bench.append(&id, 0, b"abcd").await.expect("appended");
        match found {
            Some(found) => fs::write(bench.upload_file(&id), found).expect("written"),
            None => fs::remove_file(bench.upload_file(&id)).expect("removed"),
        }
        let bench = bench.reopened().await;
        assert_eq!(bench.offset(&id).await, goes_on, "{what}");
        let rest = &b"abcdefgh"[goes_on as usize..];
        bench.append(&id, goes_on, rest).await.expect(what);
        assert_eq!(bench.finish(&id, b"abcdefgh").await.expect(what), 8);
        assert_eq!(bench.files(), [Digest::of(b"abcdefgh").hex()], "{what}");
    }
}

#[tokio::test]
async fn a_file_that_changes_while_the_catalog_is_open() {
    let bench = Bench::new().await;
    let id = bench.begin("acme").await;
    bench.append(&id, 0, b"abcd").await.expect("appended");
    fs::write(bench.upload_file(&id), b"abcdXXXX").expect("written");
    bench.append(&id, 4, b"ef").await.expect("what is beyond the row is cut off");
    fs::write(bench.upload_file(&id), b"abcdefXXXX").expect("written");
    bench.finish(&id, b"abcdef").await.expect("also when finishing");

    let id = bench.begin("acme").await;
    bench.append(&id, 0, b"abcd").await.expect("appended");
    fs::write(bench.upload_file(&id), b"ab").expect("written");
    let appended = bench.append(&id, 4, b"ef").await;
    assert!(matches!(appended, Err(CatalogError::Io { .. })), "{appended:?}");
    assert_eq!(outcome(bench.finish(&id, b"abcd").await), "wrong digest");
}

#[test]
fn upload_ids_are_hex() {
    let good = "0123456789abcdef".repeat(2);
    assert_eq!(good.parse::<UploadId>().expect("an id").to_string(), good);
    for text in [
        "",
        "..",
        &good[1..],
        &good.to_uppercase(),
        &format!("{good}0"),
        "../../../../../../../../etc/pass",
    ] {
        let error = text.parse::<UploadId>().expect_err(text);
        assert!(error.to_string().contains("32 lower-case hex"), "{error}");
    }
}
