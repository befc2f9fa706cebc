//! Normal equations, by Cholesky's decomposition.

/// The x for which a x = b, where `a` (row-major, `b.len()` squared) is symmetric and positive definite.
///
/// # Errors
/// The number of the row at which `a` turns out not to be positive definite.
pub fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Result<Vec<f64>, usize> {
    let n = b.len();
    for j in 0..n {
        for i in j..n {
            let mut sum = a[i * n + j];
            for k in 0..j {
                sum -= a[i * n + k] * a[j * n + k];
            }
            if i == j {
                if !(sum > 0.0) {
                    return Err(j);
                }
                a[j * n + j] = sum.sqrt();
            } else {
                a[i * n + j] = sum / a[j * n + j];
            }
        }
    }
    for i in 0..n {
        let known: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - known) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - known) / a[i * n + i];
    }
    Ok(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_solved_solves() {
        let (a, x) = ([4.0, 2.0, 1.0, 2.0, 5.0, 3.0, 1.0, 3.0, 6.0], [1.0, -2.0, 3.0]);
        let b = (0..3).map(|i| (0..3).map(|j| a[i * 3 + j] * x[j]).sum()).collect();
        for (got, wanted) in solve(a.to_vec(), b).unwrap().iter().zip(x) {
            assert!((got - wanted).abs() < 1e-12, "{got} is not {wanted}");
        }
        assert_eq!(solve(vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 1.0]), Err(1));
        assert_eq!(solve(vec![f64::NAN], vec![1.0]), Err(0));
    }
}
