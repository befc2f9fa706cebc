;; A component that wants a bare function of the host.
(component
  (import "exit" (func (param "code" u32)))
)
