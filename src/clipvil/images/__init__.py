"""Pictures: where they come from, safe decoding, resize policies, normalisation.

`sources.open_source(path)` gives items; `prepare.prepare(item.read(), policy, ...)` decodes and resizes one (for loader
workers); `normalise.normalise(batch, preprocess)` makes a batch ready for an encoder.
"""
