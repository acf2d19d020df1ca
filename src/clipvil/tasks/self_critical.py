"""Self-critical training (Rennie et al. 2017): sampled captions are made likelier the better they score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipvil.errors import RecipeError
from clipvil.metrics.captions.reward import CaptionReward, DocumentFrequencies, count_frequencies
from clipvil.models.decoding import decode
from clipvil.records import CaptionedImage
from clipvil.tasks.caption_losses import advantages, self_critical, token_mask
from clipvil.text.caption_vocabulary import CaptionVocabulary

if TYPE_CHECKING:
    from clipvil.tasks.caption_settings import CaptioningSettings


def reward_of(settings: CaptioningSettings, words: CaptionVocabulary, train: Sequence[CaptionedImage]) -> CaptionReward:
    """The reward with the document frequencies of the file that the recipe names, or of the training captions.

    Raises RecipeError where the file belongs to another vocabulary, DataError where it cannot be read.
    """
    if settings.frequencies:
        frequencies = DocumentFrequencies.load(settings.frequencies)
        if frequencies.vocabulary not in ("", words.fingerprint()):
            raise RecipeError(
                f"{settings.frequencies}: counted with another vocabulary (fingerprint {frequencies.vocabulary} there, "
                f"{words.fingerprint()} here); write it again with `clipvil captions document-frequencies --vocabulary`"
            )
    else:
        frequencies = count_frequencies((c for record in train for c in record.told), words)
    return CaptionReward(frequencies, settings.reward_cider, settings.reward_bleu)


def self_critical_loss(
    model: nn.Module, batch: Mapping[str, Tensor], settings: CaptioningSettings, reward: CaptionReward
) -> Tensor:
    """The loss of one batch, as a scalar. `model` may be wrapped for several processes.

    Captions are sampled without dropout and without gradients, with the cache; then one pass over the samples gives
    their log-probabilities with both. (The published code samples with dropout, and keeps what it sampled by.)
    """
    samples, greedy = _drawn(getattr(model, "module", model), batch, settings)
    return loss_of_samples(model, batch, samples, greedy, reward)


def loss_of_samples(
    model: nn.Module, batch: Mapping[str, Tensor], samples: Tensor, greedy: Tensor | None, reward: CaptionReward
) -> Tensor:
    """The loss of samples (B, K, T) that were drawn of the pictures of a batch, as a scalar.

    The baseline is the reward of `greedy` (B, T), or of the other samples of a picture where that is None. Pictures
    without captions have nothing to be compared with and count nowhere.
    """
    count, length = samples.shape[1:]
    rows, told = samples.reshape(-1, length), batch["references_of"] > 0
    gained = _gained(samples, greedy, batch, reward).to(samples.device)
    inputs = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], dim=1)
    log_probs = model(captions=inputs, **pictures_of(batch))
    chosen = log_probs.gather(2, rows.unsqueeze(2)).squeeze(2)
    mask = token_mask(rows) & told.repeat_interleave(count).unsqueeze(1)
    return self_critical(chosen, mask, gained.flatten())


def pictures_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a captioner wants to know of the pictures of a batch."""
    return {name: batch[name] for name in ("cells", "mask", "shapes", "boxes") if name in batch}


@torch.no_grad()
def _drawn(model: Any, batch: Mapping[str, Tensor], settings: CaptioningSettings) -> tuple[Tensor, Tensor | None]:
    """Samples (B, K, T), and the greedy captions (B, T) where they are the baseline."""
    was_training = model.training
    model.eval()
    try:
        memory = model.encode(**pictures_of(batch))
        samples = decode(model, memory, settings.sampling()).rows
        greedy = decode(model, memory, settings.greedy()).rows[:, 0] if settings.baseline == "greedy" else None
    finally:
        model.train(was_training)
    return samples, greedy


def _gained(samples: Tensor, greedy: Tensor | None, batch: Mapping[str, Tensor], reward: CaptionReward) -> Tensor:
    """The advantage (B, K) float32 of each sample; 0 for pictures without captions."""
    pictures, count, _ = samples.shape
    counts = batch["references_of"].tolist()
    told = [place for place, number in enumerate(counts) if number]
    gained = torch.zeros(pictures, count)
    if not told:
        return gained
    references = [batch["references"][place, : counts[place]].cpu().numpy() for place in told]
    places = torch.arange(len(told))
    scores = reward(samples[told].flatten(0, 1).cpu().numpy(), references, places.repeat_interleave(count).numpy())
    base = None
    if greedy is not None:
        base = torch.from_numpy(reward(greedy[told].cpu().numpy(), references, places.numpy()))
    gained[told] = advantages(torch.from_numpy(scores).view(-1, count), base).float()
    return gained
