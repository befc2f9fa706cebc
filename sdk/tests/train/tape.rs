//! What the tape keeps, and what goes wrong.

use innkeeper_sdk::train::{
    Adam, Dropout, Linear, Module, MultiHeadAttention, Optimizer, Parameter, Random, Sequential,
    Sgd, Var, without_gradients,
};
use innkeeper_sdk::{Error, Tensor};

fn parameter(elements: &[f32]) -> Parameter {
    Parameter::new(Tensor::from_slice(&[elements.len()], elements).unwrap())
}

fn total(x: &Var) -> Var {
    x.sum(&[], false).unwrap()
}

fn gradient_of(loss: &Var, parameter: &Parameter) -> Vec<f32> {
    loss.backward().unwrap().get(parameter).unwrap().to_vec().unwrap()
}

#[test]
fn gradients_meet_where_a_value_went_several_ways() {
    let x = parameter(&[3.0]);
    let square = x.var().mul(&x.var()).unwrap();
    // x^2 + x^2 * x, by way of one value of x^2.
    let sum = square.add(&square.mul(&x.var()).unwrap()).unwrap();
    assert_eq!(gradient_of(&total(&sum), &x), [2.0 * 3.0 + 3.0 * 9.0]);
}

#[test]
fn what_is_detached_or_not_recorded_has_no_gradient() {
    let x = parameter(&[3.0]);
    let half = x.var().mul(&x.var().detach()).unwrap();
    assert_eq!(gradient_of(&total(&half), &x), [3.0]);
    let nothing = without_gradients(|| total(&x.var()));
    assert!(nothing.backward().unwrap().is_empty());
    let other = parameter(&[1.0]);
    let gradients = total(&x.var()).backward().unwrap();
    assert!(gradients.get(&other).is_none() && gradients.len() == 1);
}

#[test]
fn a_long_recurrence_does_not_overflow_the_stack() {
    let x = parameter(&[1.0]);
    let mut y = x.var();
    for _ in 0..100_000 {
        y = y.add_scalar(1.0).unwrap();
    }
    assert_eq!(gradient_of(&total(&y), &x), [1.0]);
    drop(y);
}

#[test]
fn a_step_leaves_what_was_recorded_as_it_was() {
    let x = parameter(&[3.0]);
    let loss = total(&x.var().mul(&x.var()).unwrap());
    let gradients = loss.backward().unwrap();
    Sgd::new(0.5).step(std::slice::from_ref(&x), &gradients).unwrap();
    assert_eq!(x.value().to_vec::<f32>().unwrap(), [0.0]);
    // The operations of the first pass still hold 3.
    assert_eq!(gradient_of(&loss, &x), [6.0]);
}

#[test]
fn what_does_not_fit() {
    let x = parameter(&[1.0, 2.0]);
    let several = x.var().backward().unwrap_err();
    assert!(several.text().contains("take its sum or mean first"), "{several}");
    let vector = x.var().matmul(&x.var()).unwrap_err();
    assert!(vector.text().contains("reshape a vector"), "{vector}");
    let axis = x.var().sum(&[2], false).unwrap_err();
    assert!(matches!(axis, Error::InvalidArgument(_)), "{axis}");
    let heads = MultiHeadAttention::new(10, 3, &mut Random::new(1)).unwrap_err();
    assert!(heads.text().contains("multiple of the number of heads"), "{heads}");
    let gradients = total(&x.var()).backward().unwrap();
    let rate = Adam::new(-1.0).step(std::slice::from_ref(&x), &gradients).unwrap_err();
    assert!(rate.text().contains("the learning rate must be"), "{rate}");
    assert_eq!(x.value().to_vec::<f32>().unwrap(), [1.0, 2.0]);
    let labels = Tensor::from_slice(&[1], &[2i64]).unwrap();
    let label = x.var().reshape(&[1, 2]).unwrap().cross_entropy(&labels).unwrap_err();
    assert!(label.text().contains("there are 2 classes"), "{label}");
}

#[test]
fn a_parameter_that_joins_later_counts_its_own_steps() {
    let (early, late) = (parameter(&[1.0]), parameter(&[1.0]));
    let mut adam = Adam::new(0.1);
    let both = [early.clone(), late.clone(), early.clone()];
    adam.step(&both, &total(&early.var()).backward().unwrap()).unwrap();
    assert_eq!(late.value().to_vec::<f32>().unwrap(), [1.0]);
    let sum = early.var().add(&late.var()).unwrap();
    adam.step(&both, &total(&sum).backward().unwrap()).unwrap();
    // With a gradient that is always 1, each of Adam's steps is the learning rate.
    for (parameter, wanted) in [(early, 0.8), (late, 0.9)] {
        let got = parameter.value().to_vec::<f32>().unwrap()[0];
        assert!((got - wanted).abs() < 1e-6, "{got} {wanted}");
    }
}

#[test]
fn parameters_are_named_as_in_pytorch() {
    let mut random = Random::new(1);
    let model = Sequential::new()
        .with(Linear::new(2, 3, &mut random).unwrap())
        .relu()
        .with(Dropout::new(0.5, 1))
        .with(MultiHeadAttention::new(4, 2, &mut random).unwrap());
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    let wanted = [
        "0.weight",
        "0.bias",
        "3.input.weight",
        "3.input.bias",
        "3.output.weight",
        "3.output.bias",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn dropout_drops_only_in_training() {
    let dropout = Dropout::new(0.5, 1);
    let x = Var::constant(Tensor::from_slice(&[64], &[1f32; 64]).unwrap());
    let zeros = |y: Var| y.value().to_vec::<f32>().unwrap().iter().filter(|&&y| y == 0.0).count();
    let (first, second) = (dropout.forward(&x).unwrap(), dropout.forward(&x).unwrap());
    assert_ne!(first.value().to_bytes().unwrap(), second.value().to_bytes().unwrap());
    assert!((10..54).contains(&zeros(first)));
    dropout.set_training(false);
    assert_eq!(zeros(dropout.forward(&x).unwrap()), 0);
}
