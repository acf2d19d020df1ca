"""How the weights of the miniature encoders are made; `python -m clipvil.mini.train` runs it."""
