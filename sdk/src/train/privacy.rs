//! Differential privacy: what steps of clipped and noisy gradients tell about one row.

/// The orders at which the loss of privacy is looked at.
const ORDERS: std::ops::RangeInclusive<u32> = 2..=256;

/// The epsilon for which `steps` steps of DP-SGD are (epsilon, `delta`)-differentially private, where each row takes part
/// in a step with the chance `sampling`, each row's gradient is clipped to a norm, and normal noise of `noise` times that
/// norm is added to their sum: Rényi accounting of the sampled Gaussian at whole orders (Mironov, Talwar and Zhang 2019, *Rényi
/// Differential Privacy of the Sampled Gaussian Mechanism*, theorem 11), made an epsilon by Canonne, Kamath and Steinke 2020
/// (proposition 12). Infinite without noise.
///
/// Batches that are cut from a shuffled epoch, as jobs do, are not drawn with a chance; taking their share for it is
/// customary, and an approximation. And noise protects only those who do not know the seed that it came from.
///
/// ```
/// use innkeeper_sdk::train::epsilon;
///
/// // 60,000 rows in batches of 600, for 100 epochs.
/// assert!((epsilon(0.01, 1.1, 10_000, 1e-5) - 5.6543).abs() < 1e-4);
/// ```
pub fn epsilon(sampling: f64, noise: f64, steps: u64, delta: f64) -> f64 {
    if !(noise > 0.0 && delta > 0.0) {
        return f64::INFINITY;
    }
    let of = |order: u32| {
        let alpha = f64::from(order);
        let rdp = rdp(sampling.clamp(0.0, 1.0), noise, order) * steps as f64;
        rdp + ((alpha - 1.0) / alpha).ln() - (delta.ln() + alpha.ln()) / (alpha - 1.0)
    };
    ORDERS.map(of).fold(f64::INFINITY, f64::min).max(0.0)
}

/// The Rényi divergence of one step.
fn rdp(sampling: f64, noise: f64, order: u32) -> f64 {
    let alpha = f64::from(order);
    if sampling == 0.0 {
        return 0.0;
    }
    if sampling == 1.0 {
        return alpha / (2.0 * noise * noise);
    }
    // ln sum_k C(alpha, k) (1 - q)^(alpha - k) q^k e^((k^2 - k) / (2 noise^2)), its terms as logarithms.
    let mut terms = Vec::with_capacity(order as usize + 1);
    let mut binomial = 0.0f64;
    for k in 0..=order {
        let of = f64::from(k);
        if k > 0 {
            binomial += ((alpha - of + 1.0) / of).ln();
        }
        let chance = of * sampling.ln() + (alpha - of) * (-sampling).ln_1p();
        terms.push(binomial + chance + (of * of - of) / (2.0 * noise * noise));
    }
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| (term - largest).exp()).sum();
    (largest + sum.ln()) / (alpha - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_opacuss() {
        // What Opacus 1.6.0 (`opacus.accountants.analysis.rdp`) answers with the orders 2 to 256.
        let cases = [
            (0.01, 1.1, 10_000, 1e-5, 5.654308000149469),
            (0.02, 0.8, 500, 1e-5, 5.397018914477763),
            (1.0, 5.0, 10, 1e-6, 3.134502711922123),
            (0.001, 0.5, 1_000, 1e-5, 4.96335906435208),
            (32.0 / 1437.0, 1.0, 1_350, 1e-5, 5.695039090666207),
        ];
        for (sampling, noise, steps, delta, wanted) in cases {
            let got = epsilon(sampling, noise, steps, delta);
            assert!((got - wanted).abs() < 1e-9 * wanted, "{got} is not {wanted}");
        }
        assert_eq!(epsilon(0.5, 0.0, 1, 1e-5), f64::INFINITY);
        assert_eq!(epsilon(0.0, 1.0, 1, 1e-5), epsilon(0.0, 9.0, 99, 1e-5));
    }
}
