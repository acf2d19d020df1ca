"""Making captions with a trained captioner: greedy, sampling, beam search, all for a whole batch at once."""

from clipvil.models.decoding.decode import Decoded, decode
from clipvil.models.decoding.options import Decoding

__all__ = ["Decoded", "Decoding", "decode"]
