"""Compare: encoders x tasks x seeds, with intervals, costs and one report."""
