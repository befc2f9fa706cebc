;; The code of a model that has none of its own: it opens the ONNX file among its assets, says what that takes and gives,
;; and lets the host run it. Tensors pass through as handles; nothing is copied and nothing is computed here.
;;
;; It is written in WebAssembly's text format so that it needs no compiler for guests: the command line holds this file
;; and makes the component of it. The world is `plugin` in wit/model.wit. As the contract has the same types on both sides,
;; most answers of the host's are handed on where they lie.
(module
  (import "innkeeper:model/assets@0.1.0" "list" (func $list (param i32)))
  (import "innkeeper:model/graph@0.1.0" "[static]graph.open" (func $open (param i32 i32 i32)))
  (import "innkeeper:model/graph@0.1.0" "[method]graph.inputs" (func $inputs (param i32 i32)))
  (import "innkeeper:model/graph@0.1.0" "[method]graph.outputs" (func $outputs (param i32 i32)))
  (import "innkeeper:model/graph@0.1.0" "[method]graph.run"
    (func $run (param i32 i32 i32 i32 i32 i32)))
  (import "innkeeper:model/tensors@0.1.0" "[resource-drop]tensor" (func $drop (param i32)))

  (memory (export "memory") 1)

  ;; 16: the list of assets, where it lies and how long it is. 32: what `load` answers. 64: what `describe` answers.
  ;; 128: what `predict` answers. 192: the one property. From 1024 on: what the host hands over during a call.
  (global $graph (mut i32) (i32.const 0))
  (global $top (mut i32) (i32.const 1024))
  (data (i32.const 192) "\d8\00\00\00\08\00\00\00\e0\00\00\00\04\00\00\00")
  (data (i32.const 216) "platformonnx")
  (data (i32.const 256) "none of the model's assets is an ONNX file, whose name ends in .onnx")

  ;; Room for what the host hands over, given back when the call is over.
  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32) (local $missing i32)
    (local.set $at (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (if (i32.lt_u (global.get $top) (local.get $at)) (then (unreachable)))
    (local.set $missing (i32.sub
      (i32.add (i32.shr_u (global.get $top) (i32.const 16)) (i32.const 1))
      (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.lt_s (memory.grow (local.get $missing)) (i32.const 0)) (then (unreachable)))))
    (local.get $at))

  (func $over (param i32) (global.set $top (i32.const 1024)))
  (export "cabi_post_innkeeper:model/model@0.1.0#load" (func $over))
  (export "cabi_post_innkeeper:model/model@0.1.0#describe" (func $over))
  (export "cabi_post_innkeeper:model/model@0.1.0#predict" (func $over))

  ;; Whether the name of these bytes ends in ".onnx".
  (func $is_graph (param $at i32) (param $length i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (if (i32.lt_u (local.get $length) (i32.const 6)) (then (return (i32.const 0))))
    (i32.and
      (i32.eq (i32.load8_u (i32.sub (local.get $end) (i32.const 5))) (i32.const 0x2e))
      (i32.eq (i32.load align=1 (i32.sub (local.get $end) (i32.const 4))) (i32.const 0x786e6e6f))))

  ;; Opens the first asset that is a graph. An asset's entry has 24 bytes and begins with its name.
  (func (export "innkeeper:model/model@0.1.0#load") (result i32)
    (local $entry i32) (local $end i32)
    (call $list (i32.const 16))
    (local.set $entry (i32.load (i32.const 16)))
    (local.set $end (i32.add (local.get $entry)
      (i32.mul (i32.load (i32.const 20)) (i32.const 24))))
    (block $none
      (loop $next
        (br_if $none (i32.ge_u (local.get $entry) (local.get $end)))
        (if (call $is_graph (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)))
          (then
            ;; `result<graph, error>` is read as `result<_, error>`: what differs comes after the case.
            (call $open
              (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)) (i32.const 32))
            (global.set $graph (i32.load (i32.const 36)))
            (return (i32.const 32))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 24)))
        (br $next)))
    ;; An error of the case `not-found`.
    (i32.store (i32.const 32) (i32.const 1))
    (i32.store (i32.const 36) (i32.const 1))
    (i32.store (i32.const 40) (i32.const 256))
    (i32.store (i32.const 44) (i32.const 68))
    (i32.const 32))

  ;; A signature: the graph's inputs and outputs, no batch axis, one property.
  (func (export "innkeeper:model/model@0.1.0#describe") (result i32)
    (i32.store (i32.const 64) (i32.const 0))
    (call $inputs (global.get $graph) (i32.const 68))
    (call $outputs (global.get $graph) (i32.const 76))
    (i32.store (i32.const 84) (i32.const 0))
    (i32.store (i32.const 92) (i32.const 192))
    (i32.store (i32.const 96) (i32.const 1))
    (i32.const 64))

  ;; A list of named tensors is read as one of names and borrowed tensors. All outputs are asked for; those that nobody
  ;; wants are dropped by the host.
  (func (export "innkeeper:model/model@0.1.0#predict")
    (param $at i32) (param $count i32) (result i32)
    (call $run (global.get $graph) (local.get $at) (local.get $count)
      (i32.const 0) (i32.const 0) (i32.const 128))
    (loop $next
      (if (local.get $count)
        (then
          (call $drop (i32.load offset=8 (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 12)))
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (br $next))))
    (i32.const 128)))
