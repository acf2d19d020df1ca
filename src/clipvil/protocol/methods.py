"""Ways of training by name: what each changes in a recipe.

All but `plain` and `probe` distil (see `clipvil.distillation`); what they share, teachers above all, is said once in
the protocol's `distillation`. The names and their meaning:

plain                     fine-tuning alone
naive                     distillation of everything, every example counting the same
mad                       tokens selected by relevance, examples weighted by the teacher's correctness
mad-no-selection          ... with all tokens
mad-no-weighting          ... with all examples counting the same
random-tokens             ... with as many tokens, drawn by lot: does it matter which?
shuffled-teacher          ... with the teacher's outputs of another example: is it more than a regulariser?
mad-text-only, mad-vision-only      ... matching words alone, cells alone (the pooled state in both)
mad-adaptive              ... after a stage of distillation without labels
probe                     no student: a linear probe on what the teacher says of picture and text
"""

from __future__ import annotations

PLAIN = "plain"

_WEIGHT = "distillation.weight=1"
_ALL = ("distillation.selection.policy=all",)
_SAME = ("distillation.confidence=constant",)
_RANDOM = ("distillation.selection.text=random", "distillation.selection.vision=random")

METHODS: dict[str, tuple[str, ...]] = {
    PLAIN: ("distillation.weight=0",),
    "naive": (_WEIGHT, *_ALL, *_SAME),
    "mad": (_WEIGHT,),
    "mad-no-selection": (_WEIGHT, *_ALL),
    "mad-no-weighting": (_WEIGHT, *_SAME),
    "random-tokens": (_WEIGHT, *_RANDOM),
    "shuffled-teacher": (_WEIGHT, "distillation.shuffled=true"),
    "mad-text-only": (_WEIGHT, "distillation.terms.vision=0"),
    "mad-vision-only": (_WEIGHT, "distillation.terms.text=0"),
    "mad-adaptive": (_WEIGHT, "distillation.adaptive_steps=100"),
}
"""Method -> overrides, in the order of tables."""
PROBE = "probe"
"""The method that trains no student: see `clipvil.distillation.teacher_probe`."""
PROBE_TRAINING = ("optimiser.name=adamw", "optimiser.lr=0.01", "optimiser.weight_decay=0.01")
"""How the probe is trained, for as many steps and with the same batches as the student."""
