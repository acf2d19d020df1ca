"""The EnvDrop agent and speaker against the recorded networks, and what the options change."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from clipvil.convert import envdrop as follower_source
from clipvil.convert import envdrop_speaker as speaker_source
from clipvil.errors import RecipeError
from clipvil.models.envdrop import EnvDrop, State, build
from clipvil.models.envdrop_speaker import Speaker
from tests.shared import shared

NEAR = {"rtol": 0.0, "atol": 5e-5}


def recorded(name: str) -> dict[str, Tensor]:
    return load_file(shared("fixtures", "navigation", f"{name}.safetensors"))


def follower(io: dict[str, Tensor], encoder: str = "encoder", **options: object) -> EnvDrop:
    parts = {encoder: "encoder", "decoder": "decoder", "critic": "critic"}
    state = {
        f"{parts[part]}.{rest}": tensor
        for name, tensor in io.items()
        for part, _, rest in [name.partition("/")]
        if part in parts
    }
    return follower_source.from_envdrop(state, **options).eval()


def speaker(io: dict[str, Tensor]) -> Speaker:
    state = {name.replace("/", ".", 1): t for name, t in io.items() if name.startswith(("encoder/", "decoder/"))}
    return speaker_source.from_envdrop(state, angle_size=8).eval()


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, **NEAR)


def test_encoder_gives_the_recorded_context_and_start() -> None:
    io = recorded("agent_steps")
    ids, lengths = io["in/instruction_ids"], io["in/lengths"]
    found = follower(io).encode(ids, lengths)
    close(found.context, io["out/ctx"])
    close(found.h, io["out/h0"])
    close(found.c, io["out/c0"])
    assert torch.equal(found.mask, io["in/ctx_mask"].bool())
    close(follower(io, start="last").encode(ids, lengths).h, io["out/h0_tanh_mode"])
    nothing = follower(io, start="zero").encode(ids, lengths)
    close(nothing.h, io["out/h0_zero_mode"])
    close(nothing.c, io["out/c0_zero_mode"])


def test_encoder_of_one_direction_gives_the_recorded_context() -> None:
    io = recorded("agent_steps")
    found = follower(io, "encoder_uni").encode(io["in/instruction_ids"], io["in/lengths"])
    close(found.context, io["out/uni_ctx"])
    close(found.h, io["out/uni_h0"])
    close(found.c, io["out/uni_c0"])


def test_encoder_takes_rows_in_any_order() -> None:
    io = recorded("agent_steps")
    turned = follower(io).encode(io["in/instruction_ids"].flip(0), io["in/lengths"].flip(0))
    close(turned.context, io["out/ctx"].flip(0))
    close(turned.c, io["out/c0"].flip(0))


def test_three_decoder_steps_and_the_critic_give_the_recorded_numbers() -> None:
    io = recorded("agent_steps")
    model = follower(io)
    instruction = model.encode(io["in/instruction_ids"], io["in/lengths"])
    state = model.begin(instruction)
    for step in range(3):
        given = {name: io[f"step{step}/in/{name}"] for name in ("action", "views", "candidates", "candidate_lengths")}
        said = model.step(
            state, instruction, given["action"], given["views"], given["candidates"], given["candidate_lengths"]
        )
        real = torch.arange(6) < given["candidate_lengths"].unsqueeze(1)
        close(said.hidden, io[f"step{step}/out/h"])
        close(said.state.cell, io[f"step{step}/out/c"])
        close(said.state.attended, io[f"step{step}/out/h_tilde"])
        close(said.logits[real], io[f"step{step}/out/logits"][real])
        assert torch.isinf(said.logits[~real]).all()
        close(said.logits.log_softmax(1).masked_fill(~real, 0), io[f"step{step}/out/log_softmax"])
        close(model.value(said.hidden), io[f"step{step}/out/value"])
        close(said.views, io[f"step{step}/out/view_attention"])
        close(said.words, io[f"step{step}/out/word_attention"])
        state = said.state


def test_speaker_gives_the_recorded_logits_loss_and_gradients() -> None:
    io = recorded("speaker")
    model = speaker(io)
    context = model.encode(io["in/view_features"], io["in/action_features"])
    close(context, io["out/path_context"])
    words = io["in/words"]
    mask = torch.arange(context.shape[1]) >= io["in/lengths"].unsqueeze(1)
    logits, _ = model.decode(words, context, mask)
    close(logits, io["out/logits"])
    loss = functional.cross_entropy(logits[:, :-1].transpose(1, 2), words[:, 1:], ignore_index=0)
    assert float(loss) == pytest.approx(float(io["out/loss"]), rel=1e-4)
    loss.backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, io["grad/" + speaker_source.source_name(name).replace(".", "/", 1)])


def test_speaker_says_the_recorded_words_with_and_without_a_mask() -> None:
    io = recorded("speaker")
    model = speaker(io)
    mask = torch.arange(5) >= io["in/lengths"].unsqueeze(1)
    for noise, beginning in ((None, ""), (io["in/feature_mask"], "masked_")):
        context = model.encode(io["in/view_features"], io["in/action_features"], noise)
        said = model.say(context, mask, begin=29, end=2, unknown=1, longest=14)
        assert torch.equal(said, io[f"out/{beginning}greedy_words"])
    close(context, io["out/masked_path_context"])


SMALL = {"preset": "mini", "hidden": 16, "word_size": 8, "action_size": 4, "angle_size": 8}


def small(**options: object) -> EnvDrop:
    torch.manual_seed(0)
    return build({**SMALL, **options}, words=9, visual=5).eval()


def decide(model: EnvDrop, scale: float = 1.0) -> Tensor:
    torch.manual_seed(1)
    instruction = model.encode(torch.randint(1, 9, (3, 4)), torch.tensor([4, 4, 4]))
    views, candidates = torch.randn(3, 36, 13), torch.randn(3, 4, 13)
    views[..., :5] *= scale
    candidates[..., :5] *= scale
    candidates[:, 2] = 0.0
    state = State(instruction.h, instruction.c)
    count = torch.tensor([3, 3, 3])
    return model.step(state, instruction, torch.randn(3, 8), views, candidates, count).logits


def test_stopping_scores_zero_as_published_and_has_a_vector_where_asked() -> None:
    assert torch.equal(decide(small(stop="zero"))[:, 2], torch.zeros(3))
    assert (decide(small(stop="learned"))[:, 2] != 0).all()
    assert torch.isinf(decide(small())[:, 3]).all()


def test_normalised_features_may_have_any_scale() -> None:
    close(decide(small(normalise=True), 1000.0), decide(small(normalise=True), 1.0))
    assert not torch.allclose(decide(small(normalise=False), 1000.0), decide(small(normalise=False), 1.0))


def test_padding_takes_part_in_the_start_as_published_only() -> None:
    ids = torch.tensor([[3, 4, 0, 0], [3, 4, 5, 6]])
    for start, same in (("max", False), ("max_of_words", True)):
        model = small(start=start)
        together = model.encode(ids, torch.tensor([2, 4])).h[0]
        alone = model.encode(ids[:1, :2], torch.tensor([2])).h[0]
        assert torch.allclose(together, alone, atol=1e-6) is same


def test_feature_dropout_spares_angles_and_gives_way_to_environmental_noise() -> None:
    model = small(feature_dropout=0.5, normalise=False).train()
    seen = torch.ones(2, 36, 13)
    dropped = model.features(seen)
    assert torch.equal(dropped[..., 5:], seen[..., 5:])
    assert set(dropped[..., :5].unique().tolist()) == {0.0, 2.0}
    noise = model.features.noise(seen)
    assert torch.equal(model.features(seen, noise)[..., :5], noise.expand(2, 36, 5))
    assert set(noise.tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize(
    "settings", [{"hidden": 15}, {"angle_size": 6}, {"feature_dropout": 1.0}, {"stop": "never"}, {"hiden": 8}]
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="model"):
        build({**SMALL, **settings}, words=9, visual=5)
