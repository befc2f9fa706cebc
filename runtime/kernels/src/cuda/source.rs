//! The kernel sources, and what is compiled of them for one use.

use innkeeper_tensor::DType;

/// A file of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    Attention,
    AttentionHalf,
    Cast,
    Conv,
    Elementwise,
    Move,
    Product,
    ProductHalf,
    Reduce,
    Rows,
    Train,
}

impl Source {
    #[cfg(test)]
    pub(crate) const ALL: [Source; 11] = [
        Source::Attention,
        Source::AttentionHalf,
        Source::Conv,
        Source::Cast,
        Source::Elementwise,
        Source::Move,
        Source::Product,
        Source::ProductHalf,
        Source::Reduce,
        Source::Rows,
        Source::Train,
    ];

    /// Its name in errors and in the cache.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Attention => "attention",
            Source::AttentionHalf => "attention_half",
            Source::Cast => "cast",
            Source::Conv => "conv",
            Source::Elementwise => "elementwise",
            Source::Move => "move",
            Source::Product => "product",
            Source::ProductHalf => "product_half",
            Source::Reduce => "reduce",
            Source::Rows => "rows",
            Source::Train => "train",
        }
    }

    /// What it begins with after `common.cuh`, for elements T.
    fn shared(self) -> Option<&'static str> {
        match self {
            Source::AttentionHalf => Some(include_str!("cu/mma.cuh")),
            Source::Conv | Source::Product => Some(include_str!("cu/epilogue.cuh")),
            Source::ProductHalf => {
                Some(concat!(include_str!("cu/epilogue.cuh"), "\n", include_str!("cu/mma.cuh")))
            }
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Source::Attention => include_str!("cu/attention.cu"),
            Source::AttentionHalf => include_str!("cu/attention_half.cu"),
            Source::Cast => include_str!("cu/cast.cu"),
            Source::Conv => include_str!("cu/conv.cu"),
            Source::Elementwise => include_str!("cu/elementwise.cu"),
            Source::Move => include_str!("cu/move.cu"),
            Source::Product => include_str!("cu/product.cu"),
            Source::ProductHalf => include_str!("cu/product_half.cu"),
            Source::Reduce => include_str!("cu/reduce.cu"),
            Source::Rows => include_str!("cu/rows.cu"),
            Source::Train => include_str!("cu/train.cu"),
        }
    }
}

/// A source with the options that choose what of it is compiled: one module on a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Unit {
    pub(crate) source: Source,
    /// `NAME` or `NAME=value`, in the order given.
    pub(crate) options: Vec<String>,
}

impl Unit {
    pub(crate) fn new(source: Source) -> Unit {
        Unit { source, options: Vec::new() }
    }

    /// Computes on elements of `dtype`.
    pub(crate) fn of(source: Source, dtype: DType) -> Unit {
        let unit = Unit::new(source).with(format!("ELEMENT={}", element(dtype)));
        match dtype {
            DType::Bool => unit.with("IS_BOOL"),
            DType::Fp16 => unit.with("IS_REAL").with("IS_HALF").with("IS_FP16"),
            DType::Bf16 => unit.with("IS_REAL").with("IS_HALF").with("IS_BF16"),
            DType::Fp32 | DType::Fp64 => unit.with("IS_REAL"),
            _ => unit.with("IS_INTEGER"),
        }
    }

    /// Moves elements of `bytes` bytes, and does not look at them.
    pub(crate) fn of_words(source: Source, bytes: usize) -> Unit {
        let word = match bytes {
            1 => "u8",
            2 => "u16",
            4 => "u32",
            _ => "u64",
        };
        Unit::new(source).with(format!("ELEMENT={word}"))
    }

    pub(crate) fn with(mut self, option: impl Into<String>) -> Unit {
        self.options.push(option.into());
        self
    }

    /// The source as the compiler gets it.
    pub(crate) fn text(&self) -> String {
        let (common, name) = (include_str!("cu/common.cuh"), self.source.name());
        let mut text = format!("#line 1 \"common.cuh\"\n{common}\n");
        if let Some(shared) = self.source.shared() {
            text.push_str("typedef ELEMENT T;\n");
            text.push_str(shared);
        }
        text.push_str(&format!("\n#line 1 \"{name}.cu\"\n{}", self.source.text()));
        text
    }

    /// Its name in errors: the source and the options.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.source.name(), self.options.join(" "))
    }
}

/// What an element is called in the sources.
pub(crate) fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::Uint8 | DType::Bytes => "u8",
        DType::Uint16 => "u16",
        DType::Uint32 => "u32",
        DType::Uint64 => "u64",
        DType::Int8 => "i8",
        DType::Int16 => "i16",
        DType::Int32 => "i32",
        DType::Int64 => "i64",
        DType::Fp16 => "f16",
        DType::Bf16 => "bf16",
        DType::Fp32 => "float",
        DType::Fp64 => "double",
    }
}
