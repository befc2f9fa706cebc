use std::io::Cursor;

use innkeeper_tensor::{Buffer, DType, Tensor};
use proptest::prelude::*;

use super::*;

fn options(format: Format) -> Import {
    let limits = ImportLimits::default();
    Import { format, header: true, delimiter: b',', columns: Vec::new(), limits }
}

fn convert(import: &Import, bytes: &[u8]) -> Result<Dataset, DatasetError> {
    let mut out = tempfile::tempfile().unwrap();
    let schema = super::import(Cursor::new(bytes.to_vec()), import, &mut out)?;
    let mut converted = Vec::new();
    out.seek(SeekFrom::Start(0)).unwrap();
    out.read_to_end(&mut converted).unwrap();
    let dataset = Dataset::open(Buffer::from_vec(converted))?;
    assert_eq!(*dataset.schema(), schema);
    Ok(dataset)
}

/// Columns as `name dtype shape`, and the values of each.
fn told(dataset: &Dataset) -> Vec<String> {
    let rows: Vec<u64> = (0..dataset.schema().rows).collect();
    let columns = dataset.schema().columns.iter().enumerate();
    let told = columns.map(|(i, column)| {
        let values = values(&dataset.gather(i, &rows).unwrap());
        format!("{} {} {:?} {values}", column.name, column.dtype.name(), column.shape)
    });
    told.collect()
}

fn values(tensor: &Tensor) -> String {
    match tensor.dtype() {
        DType::Bytes => {
            let texts = tensor.strings().unwrap().map(String::from_utf8_lossy);
            format!("{:?}", texts.collect::<Vec<_>>())
        }
        DType::Fp32 => format!("{:?}", tensor.elements::<f32>().unwrap()),
        DType::Fp64 => format!("{:?}", tensor.elements::<f64>().unwrap()),
        DType::Int64 => format!("{:?}", tensor.elements::<i64>().unwrap()),
        _ => format!("{:?}", tensor.as_bytes()),
    }
}

fn check(import: &Import, bytes: &[u8], wanted: Result<&[&str], &str>) {
    let got = convert(import, bytes).map(|dataset| told(&dataset));
    let shown = String::from_utf8_lossy(bytes);
    match (got, wanted) {
        (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{shown}"),
        (Err(got), Err(wanted)) => assert_eq!(got.to_string(), wanted, "{shown}"),
        (got, wanted) => panic!("{shown}: got {got:?}, wanted {wanted:?}"),
    }
}

#[test]
fn csv_becomes_columns() {
    let csv = options(Format::Csv);
    check(
        &csv,
        b"a,b,name,ok\n1,0.5,x,true\n-2,3,\"y, \"\"z\"\"\nw\",FALSE\n",
        Ok(&[
            "a INT64 [] [1, -2]",
            "b FP32 [] [0.5, 3.0]",
            "name BYTES [] [\"x\", \"y, \\\"z\\\"\\nw\"]",
            "ok BOOL [] [1, 0]",
        ]),
    );
    check(&csv, b"\xef\xbb\xbfa,b\r\n1,2\r\n", Ok(&["a INT64 [] [1]", "b INT64 [] [2]"]));
    check(&csv, b"a\n1\n2.5\n", Ok(&["a FP32 [] [1.0, 2.5]"]));
    check(&csv, b"a\nx\n2.5\n\"\"\n", Ok(&["a BYTES [] [\"x\", \"2.5\", \"\"]"]));
    check(&csv, b"a\n1.5\nnan\n", Ok(&["a FP32 [] [1.5, NaN]"]));
    let bare = Import { header: false, delimiter: b';', ..csv };
    check(&bare, b"1;x", Ok(&["column1 INT64 [] [1]", "column2 BYTES [] [\"x\"]"]));
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_becomes_columns() {
    let files: [&[u8]; 5] = [
        include_bytes!("fixtures/table-none.parquet"),
        include_bytes!("fixtures/table-snappy.parquet"),
        include_bytes!("fixtures/table-gzip.parquet"),
        include_bytes!("fixtures/table-zstd.parquet"),
        include_bytes!("fixtures/table-lz4.parquet"),
    ];
    for file in files {
        let got = told(&convert(&options(Format::Parquet), file).unwrap());
        let wanted = [
            "a INT64 [] [1, -2, 3]",
            "b FP32 [] [0.5, NaN, 3.0]",
            "small INT64 [] [1, 2, 255]",
            "half FP32 [] [0.5, 1.0, 2.0]",
            "ok BOOL [] [1, 0, 1]",
            "name BYTES [] [\"x\", \"y, \\\"z\\\"\", \"ä\"]",
            "day BYTES [] [\"2026-01-02\", \"1969-12-31\", \"2000-02-29\"]",
            "time BYTES [] [\"2026-01-02 03:04:05.000 +00:00\", \"2026-01-02 03:04:05.000 +00:00\", \"2026-01-02 03:04:05.000 +00:00\"]",
            "price FP32 [] [1.25, -3.5, 0.0]",
            "pixels FP32 [2] [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]",
            "grid INT64 [2, 2] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]",
        ];
        assert_eq!(got, wanted);
    }
}

#[cfg(feature = "parquet")]
#[test]
fn what_is_wrong_with_parquet_is_told_with_its_place() {
    let parquet = options(Format::Parquet);
    let files: [(&[u8], &str); 4] = [
        (
            include_bytes!("fixtures/refused-null.parquet"),
            "line 2, column 1 (\"a\"): wanted a value in every row, got \"null\"",
        ),
        (
            include_bytes!("fixtures/refused-struct.parquet"),
            "line 1, column 2 (\"b\"): wanted a number, true or false, text or a list of numbers, got \"{x: 1}\"",
        ),
        (
            include_bytes!("fixtures/refused-ragged.parquet"),
            "line 2, column 1 (\"a\"): wanted numbers of the shape [2], as in the rows before, got numbers of the shape [1]",
        ),
        (
            include_bytes!("fixtures/refused-bytes.parquet"),
            "line 1, column 1 (\"a\"): wanted bytes that are text in UTF-8, got \"[255]\"",
        ),
    ];
    for (file, wanted) in files {
        check(&parquet, file, Err(wanted));
    }
    let said = |file: &[u8]| convert(&parquet, file).map(|_| ()).unwrap_err().to_string();
    let brotli = said(include_bytes!("fixtures/refused-brotli.parquet"));
    assert!(
        brotli.contains("it is no Parquet file that can be read") && brotli.contains("brotli"),
        "{brotli}"
    );
    let table = include_bytes!("fixtures/table-zstd.parquet");
    for bytes in [&b""[..], b"PAR1", &table[..table.len() - 9], &table[..100], b"a,b\n1,2\n"] {
        let text = said(bytes);
        assert!(text.starts_with("it is no Parquet file that can be read: "), "{text}");
    }
    let short = Import { limits: ImportLimits { row_bytes_max: 8, ..parquet.limits }, ..parquet };
    let text = convert(&short, table).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("row_bytes_max"), "{text}");
}

#[test]
fn what_is_wrong_with_csv_is_told_with_its_place() {
    let csv = options(Format::Csv);
    let wrong = [
        (&b""[..], "it has no rows: the file is empty"),
        (b"a,b\n", "it has no rows; a dataset has one or more"),
        (b"a,b\n1,2\n3\n", "line 3: wanted 2 cells, got 1; the first is \"3\""),
        (b"a,b\n1,2\n3,4,5\n", "line 3: wanted 2 cells, got 3; the first is \"3\""),
        (
            b"a,b\n1,2\n3,x\n",
            "line 3, column 2 (\"b\"): wanted a number, as in the rows before; declare the column BYTES if it is text, \
             got \"x\"",
        ),
        (
            b"a,b\n1,2\n\"q\nq\",2\n",
            "line 3, column 1 (\"a\"): wanted a number, as in the rows before; declare the column BYTES if it is text, \
             got \"q\\nq\"",
        ),
        (
            b"a,b\n1,2\n3,\n",
            "line 3, column 2 (\"b\"): wanted a number, as in the rows before; declare the column BYTES if it is text, \
             got nothing",
        ),
        (b"a,a\n1,2\n", "columns 1 and 2 are both named \"a\""),
        (b"a,\n1,2\n", "column 2 has no name"),
        (b"a\n\xff\n", "line 2: column 1 is not UTF-8"),
    ];
    for (bytes, text) in wrong {
        check(&csv, bytes, Err(text));
    }
    let mut short = csv.clone();
    short.limits.row_bytes_max = 1_000;
    let mut open = b"a\n\"".to_vec();
    open.resize(200_000, b'x');
    check(
        &short,
        &open,
        Err(
            "line 2: the row is longer than row_bytes_max of 1000; is a quotation mark not closed?",
        ),
    );
}

#[test]
fn what_is_declared_holds() {
    let mut csv = options(Format::Csv);
    csv.columns =
        vec![("a".into(), DType::Fp64), ("b".into(), DType::Uint8), ("c".into(), DType::Bytes)];
    check(
        &csv,
        b"a,b,c\n1,255,7\n0.1,0,8\n",
        Ok(&["a FP64 [] [1.0, 0.1]", "b UINT8 [] [255, 0]", "c BYTES [] [\"7\", \"8\"]"]),
    );
    check(
        &csv,
        b"a,b,c\n1,255,7\n0.1,256,8\n",
        Err("line 3, column 2 (\"b\"): wanted a number that UINT8 has, got \"256\""),
    );
    csv.columns = vec![("d".into(), DType::Fp64)];
    check(&csv, b"a,b\n1,2\n", Err("there is no column \"d\"; there are a, b"));
}

#[test]
fn json_lines_become_columns() {
    let lines = options(Format::JsonLines);
    check(
        &lines,
        b"{\"b\": 1, \"a\": \"x\", \"v\": [[1, 2], [3, 4]], \"t\": true}\n\n{\"t\": false, \"a\": \"\", \"b\": 2.5, \"v\": [[0, 0.5], [1, 1]]}",
        Ok(&[
            "b FP32 [] [1.0, 2.5]",
            "a BYTES [] [\"x\", \"\"]",
            "v FP32 [2, 2] [1.0, 2.0, 3.0, 4.0, 0.0, 0.5, 1.0, 1.0]",
            "t BOOL [] [1, 0]",
        ]),
    );
    check(&lines, b"{\"v\": [1, 2]}\n", Ok(&["v INT64 [2] [1, 2]"]));
    let wrong = [
        (&b"{\"a\": 1}\n[1]\n"[..], "line 2: wanted a JSON object, got another value"),
        (
            b"{\"a\": 1}\n{\"a\": \"x\"}\n",
            "line 2, column 1 (\"a\"): wanted a number, as in the rows before; declare the column BYTES if it is text, got \"x\"",
        ),
        (b"{\"a\": 1}\n{}\n", "line 2: there is no \"a\""),
        (b"{\"a\": 1}\n{\"a\": 1, \"b\": 2}\n", "line 2: \"b\" is not in the first row"),
        (
            b"{\"a\": null}\n",
            "line 1, column 1 (\"a\"): wanted a number, a string, true, false or a list, got \"null\"",
        ),
        (
            b"{\"a\": [[1], [2, 3]]}\n",
            "line 1, column 1 (\"a\"): wanted numbers, all lists of one level equally long, got \"[[1],[2,3]]\"",
        ),
        (
            b"{\"a\": [1]}\n{\"a\": [1, 2]}\n",
            "line 2, column 1 (\"a\"): wanted numbers of the shape [1], as in the rows before, got numbers of the shape [2]",
        ),
        (b"\n\n", "it has no rows; a dataset has one or more"),
    ];
    for (bytes, text) in wrong {
        check(&lines, bytes, Err(text));
    }
    check(
        &lines,
        b"{\"a\": 1}\n{\"a\": }\n",
        Err("line 2: it is not JSON: expected value at line 1 column 7"),
    );
}

/// Made by NumPy 2, see `fixtures/make.py`.
const NPY: &[u8] = include_bytes!("fixtures/pixels.npy");
const NPZ: &[u8] = include_bytes!("fixtures/columns.npz");

#[test]
fn arrays_of_numpy_become_columns() {
    check(&options(Format::Npy), NPY, Ok(&["data FP32 [2] [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]"]));
    check(
        &options(Format::Npz),
        NPZ,
        Ok(&["x FP32 [2] [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]", "y INT64 [] [7, 8, 9]"]),
    );
    let wrong = Err("it has more bytes than its header says");
    check(&options(Format::Npy), &[NPY, b"x"].concat(), wrong);
}

#[test]
fn rows_come_in_any_order() {
    let dataset = convert(&options(Format::Csv), b"a,b\n1,x\n2,y\n3,zz\n").unwrap();
    assert_eq!(values(&dataset.gather(0, &[2, 0, 2]).unwrap()), "[3, 1, 3]");
    assert_eq!(values(&dataset.gather(1, &[2, 0]).unwrap()), "[\"zz\", \"x\"]");
    assert_eq!(dataset.gather(0, &[]).unwrap().shape().dims(), [0]);
    assert!(dataset.gather(0, &[3]).is_err());
    assert!(dataset.gather(2, &[0]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), format in 0usize..5) {
        let _ = convert(&options(Format::NAMES[format].0), &bytes);
    }

    #[test]
    fn no_change_of_a_good_file_panics(
        at in 0usize..10_000,
        byte in any::<u8>(),
        cut in 0usize..10_000,
        which in 0usize..2,
    ) {
        let (format, file) = [(Format::Npy, NPY), (Format::Npz, NPZ)][which];
        let mut bytes = file.to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(1 + cut % file.len());
        let _ = convert(&options(format), &bytes);
    }
}
