//! What a model may take.

/// What a model may take when it is loaded, and keep afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadLimits {
    /// The most nodes, with those of functions counted as often as they are called.
    pub nodes_max: usize,
    /// The most bytes of constants.
    pub weight_bytes_max: u64,
    /// The most plans for different input shapes that are kept.
    pub plans_max: usize,
    /// The most bytes of constants that depend on input shapes, over all plans that are kept.
    pub plan_bytes_max: usize,
}

impl Default for LoadLimits {
    fn default() -> LoadLimits {
        LoadLimits {
            nodes_max: 100_000,
            weight_bytes_max: 8 << 30,
            plans_max: 64,
            plan_bytes_max: 64 << 20,
        }
    }
}
