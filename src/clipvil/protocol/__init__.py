"""Tasks x conditions x methods x seeds on one student: when does a way of training help?

`declaration` is what is asked, `subsets` and the shift makers (`prior_shift`, `hypothesis_hard`) make the conditions,
`methods` are the named ways of training, `planning` lays out the comparison that all of it comes to, `run` is the one
call, `results`, `report` and `table` say what came out. Cells are trained and resumed by `clipvil.compare`.
"""
