;; A component that is no model: it exports nothing.
(component)
