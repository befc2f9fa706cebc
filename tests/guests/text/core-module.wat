;; A core module, which is no component.
(module
  (func (export "predict") (result i32) (i32.const 1))
)
