;; A component that exports `model` with functions of other types than the contract's.
(component
  (core module $module
    (func (export "load"))
    (func (export "predict") (result i32) (i32.const 1))
  )
  (core instance $instance (instantiate $module))
  (func $load (canon lift (core func $instance "load")))
  (func $predict (result u32) (canon lift (core func $instance "predict")))
  (instance $model (export "load" (func $load)) (export "predict" (func $predict)))
  (export "innkeeper:model/model@0.1.0" (instance $model))
)
