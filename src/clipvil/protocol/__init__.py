"""Tasks x conditions x methods x seeds on one student: when does a way of training help?

`declaration` what is asked, `subsets` and the shift makers (`prior_shift`, `hypothesis_hard`) the conditions, `methods`
the named ways of training, `planning` the comparison that all of it comes to, `run` the one call, `results`, `report` and `table` what
comes out. Cells are trained and resumed by `clipvil.compare`.
"""
