"""`mlc train`, `resume`, `evaluate` and `infer`."""
