"""Adaptive distillation of frozen encoders into a cross-modal model while it is fine-tuned; see docs/distillation.md."""
