"""Caption metrics equal to the COCO evaluation's: BLEU, ROUGE-L, CIDEr(-D), METEOR, SPICE, CLIPScore, the reward."""

from clipvil.metrics.captions.clip import clip_score, ref_clip_score
from clipvil.metrics.captions.native import TokenisedCorpus
from clipvil.metrics.captions.reward import CaptionReward, DocumentFrequencies
from clipvil.metrics.captions.scores import JAVA, METRICS, NATIVE, CaptionScore, caption_scores

__all__ = [
    "JAVA",
    "METRICS",
    "NATIVE",
    "CaptionReward",
    "CaptionScore",
    "DocumentFrequencies",
    "TokenisedCorpus",
    "caption_scores",
    "clip_score",
    "ref_clip_score",
]
