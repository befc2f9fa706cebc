//! Loops that the compiler turns into the widest vectors that the processor has.

/// A function whose loops are compiled once for each width of vectors; the widest that the processor has is run. What
/// it calls must be `#[inline(always)]`, and its references live for `'a`.
macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $out:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name<'a, T: $crate::cpu::smooth::Smooth>($($arg: $type),*) -> $out {
            struct Work<'a, T> {
                $($arg: $type,)*
                // Not every function has references.
                lifetime: std::marker::PhantomData<&'a T>,
            }
            impl<'a, T: $crate::cpu::smooth::Smooth> pulp::WithSimd for Work<'a, T> {
                type Output = $out;

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> $out {
                    let Work { $($arg,)* .. } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Work { $($arg,)* lifetime: std::marker::PhantomData })
        }
    };
}

pub(super) use wide;
