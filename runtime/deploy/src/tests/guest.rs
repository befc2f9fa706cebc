//! Small guests, written as text, so that these tests need no compiler for guests.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest that takes `INPUT0` and gives it back as `OUTPUT0`, both FP32 [-1,2], unless something is changed.
pub(crate) struct Guest {
    /// Makes the bytes differ.
    pub(crate) tag: &'static str,
    /// The body of `load`.
    pub(crate) load: &'static str,
    /// The body of `describe`.
    pub(crate) describe: &'static str,
    /// The body of `predict`.
    pub(crate) predict: &'static str,
    /// The sizes of the input's two dimensions; the output's are -1 and 2.
    pub(crate) input: (i64, i64),
    /// The name of what is given, 7 bytes long.
    pub(crate) gives: &'static str,
}

impl Default for Guest {
    fn default() -> Guest {
        let (input, gives) = ((-1, 2), "OUTPUT0");
        Guest { tag: "", load: OK, describe: DESCRIBE, predict: ECHO, input, gives }
    }
}

/// Answers that all is well.
pub(crate) const OK: &str = "(i32.const 16)";
/// Answers an error of the model's own.
pub(crate) const FAIL: &str = "(i32.const 128)";
/// Answers that the input is wrong.
pub(crate) const REFUSE: &str = "(i32.const 160)";
/// Traps.
pub(crate) const TRAP: &str = "(unreachable)";
/// Never ends.
pub(crate) const SPIN: &str = "(loop $again (br $again)) (unreachable)";
/// Logs "INPUT0", then traps.
pub(crate) const LOG_AND_TRAP: &str =
    "(call $log (i32.const 3) (i32.const 64) (i32.const 6)) (unreachable)";
/// Opens the tensor `w` of `w.safetensors`, and answers what came of that.
pub(crate) const OPEN: &str =
    "(call $open (i32.const 96) (i32.const 13) (i32.const 96) (i32.const 1) (i32.const 600))
    (if (i32.load8_u (i32.const 600)) (then (return (i32.const 128)))) (i32.const 16)";
/// Describes no outputs.
pub(crate) const NO_OUTPUTS: &str = "(i32.store (i32.const 272) (i32.const 0)) (i32.const 256)";
/// Describes an input of any shape.
pub(crate) const ANY_SHAPE: &str = "(i32.store8 (i32.const 332) (i32.const 0)) (i32.const 256)";

const DESCRIBE: &str = "(i32.const 256)";
const ECHO: &str = "
    (i32.store (i32.const 536) (i32.load offset=8 (local.get 0)))
    (i32.const 512)";

impl Guest {
    /// The guest as a component.
    pub(crate) fn component(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the guest's text is right");
        let mut wit = Resolve::default();
        let (package, _) = wit.push_path("../../wit").expect("the contract parses");
        let world = wit.select_world(&[package], Some("plugin")).expect("it has the world");
        embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).unwrap();
        let encoder = ComponentEncoder::default().validate(true).module(&module).unwrap();
        { encoder }.encode().expect("the guest fits the world")
    }

    /// Where things lie: 16 an answer that all is well; 64, 80 and 96 names; 128 and 160 errors; 256 the signature,
    /// 320 and 384 its tensors, 448 and 464 their shapes; 512 an answer of one tensor.
    fn text(&self) -> String {
        let Guest { tag, load, describe, predict, input: (rows, columns), gives } = self;
        let (i32s, i64s) = (words::<4>, words::<8>);
        format!(
            r#"(module
              (import "innkeeper:model/assets@0.1.0" "open-tensor"
                (func $open (param i32 i32 i32 i32 i32)))
              (import "innkeeper:model/log@0.1.0" "write" (func $log (param i32 i32 i32)))
              (memory (export "memory") 1)
              (global $top (mut i32) (i32.const 4096))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
              (data (i32.const 64) "INPUT0") (data (i32.const 80) "{gives}")
              (data (i32.const 96) "w.safetensors") (data (i32.const 112) "no luck")
              (data (i32.const 128) "{fail}") (data (i32.const 160) "{refuse}")
              (data (i32.const 256) "{signature}")
              (data (i32.const 320) "{takes}") (data (i32.const 384) "{answers}")
              (data (i32.const 448) "{input}") (data (i32.const 464) "{output}")
              (data (i32.const 512) "{one}") (data (i32.const 1024) "OUTPUT0{tag}")
              (func (export "innkeeper:model/model@0.1.0#load") (result i32) {load})
              (func (export "innkeeper:model/model@0.1.0#describe") (result i32) {describe})
              (func (export "innkeeper:model/model@0.1.0#predict") (param i32 i32) (result i32)
                {predict}))"#,
            fail = i32s(&[1, 4, 112, 7]),
            refuse = i32s(&[1, 0, 112, 7]),
            signature = i32s(&[0, 320, 1, 384, 1, 0, 0, 0, 0]),
            takes = i32s(&[64, 6, FP32, 1, 448, 2, 0]),
            answers = i32s(&[1024, 7, FP32, 1, 464, 2, 0]),
            input = i64s(&[*rows, *columns]),
            output = i64s(&[-1, 2]),
            one = i32s(&[0, 528, 1, 0, 80, 7]),
        )
    }
}

/// FP32's place among the dtypes of the contract.
const FP32: i64 = 11;

/// Little-endian words of `N` bytes, as the text format writes data.
fn words<const N: usize>(words: &[i64]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(N));
    bytes.map(|byte| format!("\\{byte:02x}")).collect()
}
