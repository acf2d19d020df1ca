"""The training loop: one device or many, evaluated as it goes, resumed at the exact step where it stopped."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from clipvil.errors import CheckpointError, ClipvilError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.progress import Progress, progress
from clipvil.tasks.base import Scores, Task, at_epoch, stage
from clipvil.training import sharding
from clipvil.training.checkpoint import Checkpoints
from clipvil.training.distilling import Distilling, Taught
from clipvil.training.loader import StepDataset, training_batches
from clipvil.training.losses import LossModule
from clipvil.training.metric_log import MetricLog
from clipvil.training.optim import create_optimisers
from clipvil.training.randomness import deterministic
from clipvil.training.recipe import Recipe
from clipvil.training.sampling import create_sampler
from clipvil.training.update import Gradients


@dataclass
class Position:
    """Everything about a run that changes while it trains, besides tensors. JSON values only."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    evaluations_without_gain: int = 0
    stage: int = 0
    """That of the task at the last evaluation: values of another one are not compared."""
    stopped: str = ""
    """Why training ended: "steps" or "patience"; empty while it goes on."""
    logged: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "grad_norm": 0.0, "steps": 0})
    """Sums since the last line of the log."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry an evaluation: step, value, low, high, n, and the mean loss since the last one."""
    loss_since_evaluation: list[float] = field(default_factory=lambda: [0.0, 0])
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0


@dataclass(frozen=True)
class ResumeOptions:
    """What a run may do with a folder in which something was trained before."""

    resume: bool = False
    allow_older: bool = False
    allow_recipe_change: bool = False


class Loop:
    """Trains one model. `run` may be called once.

    The weights after step n are a function of recipe, data, features and number of threads alone: batches come from
    a counted sampler, random numbers from (seed, step), and a checkpoint holds weights and optimiser bit for bit.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        records: Sequence[Any],
        features: FeatureSource,
        recipe: Recipe,
        out: Path,
        *,
        validate: Callable[[nn.Module], Scores],
        accelerator: Accelerator,
        quiet: bool = False,
        taught: Taught | None = None,
    ) -> None:
        """`validate` judges the plain model on the validation split; higher is better. `taught`: what to distil."""
        self.task, self.recipe, self.accelerator, self.quiet = task, recipe, accelerator, quiet
        self.validate = validate
        self.sampler = create_sampler(recipe, records, features, accelerator)
        self.dataset = StepDataset(task, records, features, self.sampler, taught.add if taught else None)
        # What is trained, and what one calls to train it: with several processes a wrapper that averages gradients.
        # With one process `prepare` would only move the model, after importing for seconds what sharded models need.
        self.model = model.to(accelerator.device)
        plain = LossModule(task, self.model)
        self.distilling = Distilling(recipe, taught, plain, accelerator.device) if taught else None
        losses = self.distilling.losses if self.distilling else plain
        if self.distilling and sharding.asked(accelerator):
            raise UsageError("distillation does not go with sharded parameters; launch without --use_fsdp")
        self.sharded = sharding.ShardedLosses(plain, accelerator) if sharding.asked(accelerator) else None
        copies = accelerator.num_processes > 1 and self.sharded is None
        self.wrapped = self.sharded or (accelerator.prepare(losses) if copies else losses)
        self.gradients = Gradients(task, self.wrapped, accelerator, recipe.training.mixed_precision)
        self.optimisers = create_optimisers(recipe, self.model)
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.log = MetricLog(out / "metrics.jsonl", enabled=accelerator.is_main_process)
        self.position = Position()

    def run(self, options: ResumeOptions = ResumeOptions()) -> Position:
        """Train to the end, and leave the best weights in the model.

        Raises:
            CheckpointError: a checkpoint is damaged, or was written by another recipe.
            ClipvilError: the loss or the gradient is no longer a finite number.
        """
        with deterministic(self.recipe.training.threads):
            self._start(options)
            if not self.position.stopped:
                self._train()
            self.accelerator.wait_for_everyone()
            if self.position.best_step is not None:
                self.checkpoints.load(self.position.best_step, self.model)
        return self.position

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Inside, every process holds the whole model, to judge with; all must enter. Only sharded ones notice."""
        return contextlib.nullcontext() if self.sharded is None else self.sharded.whole()

    def _start(self, options: ResumeOptions) -> None:
        if self.accelerator.is_main_process:
            self.checkpoints.clean()
        # The first process alone puts a damaged checkpoint aside; the others then find what is left.
        with self.accelerator.main_process_first():
            found = self.checkpoints.newest(allow_older=options.allow_older) if options.resume else None
        if found is not None:
            step, state, skipped = found
            for line in skipped:
                self._say(line)
            self._check_recipe(state, options)
            self.position = _position(state)
            if self.position.stopped == "steps" and step < self.recipe.schedule.steps:
                self.position.stopped = ""  # finished then, but the recipe was lengthened
            self.checkpoints.load(step, self.model, self.optimisers)
            if self.distilling:
                self.distilling.load(self.checkpoints.path(step), state)
            if state.get("threads") != torch.get_num_threads():
                self._say(
                    f"resumed with {torch.get_num_threads()} threads, begun with {state.get('threads')}: "
                    "the weights will be equally good, but not bit for bit those of an undisturbed run"
                )
        self.log.rewind(self.position.step)

    def _check_recipe(self, state: dict[str, Any], options: ResumeOptions) -> None:
        differing = self.recipe.differences(state["recipe"])
        if differing and not options.allow_recipe_change:
            raise CheckpointError(
                f"{self.checkpoints.folder}: trained with another recipe ({'; '.join(differing)}); "
                "take the old values, another --out, or --allow-recipe-change"
            )

    def _train(self) -> None:
        recipe, position = self.recipe, self.position
        steps = range(position.step, recipe.schedule.steps)
        batches = training_batches(self.dataset, steps, recipe.training.loader_workers)
        clock = _Clock(position)
        self.model.train()
        quiet = self.quiet or not self.accelerator.is_main_process
        with contextlib.closing(batches), progress(len(steps), "train", unit="steps", quiet=quiet) as bar:  # type: ignore[type-var]
            for parts in batches:
                self._step(parts)
                self._log(clock)
                last = position.step == recipe.schedule.steps
                clock.training()
                if last or position.step % recipe.training.evaluate_every == 0:
                    self._evaluate(last, bar)
                    clock.evaluation()
                    self._save()
                elif recipe.training.checkpoint_every and position.step % recipe.training.checkpoint_every == 0:
                    self._save()
                bar.update()
                if position.stopped:
                    break

    def _step(self, parts: list[dict[str, Tensor]]) -> None:
        """One update from this process's micro-batches."""
        position, own = self.position, self.sampler.own_parts
        rate = next(iter(self.optimisers.set_rates(position.step).values()))
        at_epoch(self.task, self.sampler.epoch(position.step))
        self.optimisers.zero_grad()
        if self.distilling:
            self.distilling.begin(position.step)
        numbers = [self.sampler.locate(position.step * own + place) for place in range(own)]
        found = self.gradients.compute(parts, [(self.recipe.seed, "step", *number) for number in numbers])
        self._check_finite("loss", found.loss, rate)
        limit, most = self.recipe.training.grad_clip or math.inf, self.recipe.training.grad_clip_value
        norm = float(sharding.gathered(nn.utils.clip_grad_norm_(self.model.parameters(), limit)))
        self._check_finite("gradient norm", norm, rate)
        if most is not None:
            nn.utils.clip_grad_value_(self.model.parameters(), most)
        self.optimisers.step()
        measured = self.distilling.step(limit) if self.distilling else {}
        position.step += 1
        sums = {"loss": found.loss, "grad_norm": norm, "steps": 1, **measured}
        for key, value in (sums | {f"loss_{name}": value for name, value in found.terms.items()}).items():
            position.logged[key] = position.logged.get(key, 0) + value
        position.loss_since_evaluation[0] += found.loss
        position.loss_since_evaluation[1] += 1

    def _check_finite(self, what: str, value: float, rate: float) -> None:
        if not math.isfinite(value):
            steps = self.checkpoints.steps()
            kept = f"the last checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
            raise ClipvilError(
                f"{what} is {value} at step {self.position.step + 1} (learning rate {rate:.3g}): lower optimiser.lr, "
                f"lengthen schedule.warmup_steps or set training.grad_clip; {kept}"
            )

    def _log(self, clock: _Clock) -> None:
        position, every = self.position, self.recipe.training.log_every
        if position.step % every and position.step != self.recipe.schedule.steps:
            return
        count = position.logged.pop("steps")
        values = {key: value / count for key, value in position.logged.items()}
        rates = {part.name: part.optimiser.param_groups[0]["lr"] for part in self.optimisers.parts}
        values |= {"lr" if name == "model" else f"lr_{name}": rate for name, rate in rates.items()}
        values["epoch"] = self.sampler.epoch(position.step)
        position.logged = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        speed = clock.records_per_second(self.recipe.training.batch_size)
        self.log.write("train", position.step, **values, records_per_second=speed, seconds=clock.seconds())
        self.accelerator.log({f"train/{key}": value for key, value in values.items()}, step=position.step)

    def _evaluate(self, last: bool, bar: Progress) -> None:
        position, patience = self.position, self.recipe.training.patience
        if self.accelerator.num_processes > 1:
            # Statistics of BatchNorm may be each process's own; what is judged is the model that the first one saves.
            sharding.copy_from_first(self.model.buffers())
        with self.whole():
            scores = self.validate(self.model)
        total, count = position.loss_since_evaluation
        position.loss_since_evaluation = [0.0, 0]
        result = {"metric": scores.metric, **asdict(scores.overall), "loss": total / count}
        position.curve.append({"step": position.step, **result})
        now = stage(self.task)
        if now != position.stage:
            position.stage, position.best_value, position.best_step = now, None, None
        if position.best_value is None or scores.overall.value > position.best_value:
            position.best_step, position.best_value = position.step, scores.overall.value
            position.evaluations_without_gain = 0
        else:
            position.evaluations_without_gain += 1
        if last:
            position.stopped = "steps"
        elif patience is not None and position.evaluations_without_gain >= patience:
            position.stopped = "patience"
        seconds = round(position.training_seconds + position.evaluation_seconds, 3)
        self.log.write("evaluate", position.step, split="val", **result, seconds=seconds)
        self.accelerator.log({f"val/{scores.metric}": scores.overall.value}, step=position.step)
        bar.update(
            0, loss=f"{result['loss']:.3f}", val=f"{scores.overall.value:.1f}", best=f"{position.best_value:.1f}"
        )

    def _save(self) -> None:
        # Sharded tensors are put together by all processes; the first one writes them.
        writes = self.accelerator.is_main_process
        if writes or self.sharded is not None:
            # The log first: a checkpoint vouches for every line up to its step.
            self.log.sync()
            state = {
                "recipe_hash": self.recipe.hash(),
                "recipe": self.recipe.to_values(),
                "threads": torch.get_num_threads(),
                "position": asdict(self.position),
                **(self.distilling.state() if self.distilling else {}),
            }
            self.checkpoints.save(
                self.position.step,
                self.model,
                self.optimisers,
                state,
                best_step=self.position.best_step,
                writes=writes,
                further=self.distilling.tensors() if self.distilling else None,
            )
        self.accelerator.wait_for_everyone()

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.accelerator.print(line)


class _Clock:
    """Splits the time of a run between training and evaluation, over all its resumptions."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self._mark = time.monotonic()
        self._logged = (position.step, position.training_seconds)

    def training(self) -> None:
        """What went by since the last call of either kind was training."""
        self.position.training_seconds += self._lap()

    def evaluation(self) -> None:
        """What went by since the last call of either kind was evaluation."""
        self.position.evaluation_seconds += self._lap()

    def seconds(self) -> float:
        """Seconds of training and evaluation so far."""
        here = time.monotonic() - self._mark
        return round(self.position.training_seconds + self.position.evaluation_seconds + here, 3)

    def records_per_second(self, batch_size: int) -> float:
        """Records a second of training since this was last asked."""
        seconds = self.position.training_seconds + time.monotonic() - self._mark
        steps, since = self.position.step - self._logged[0], seconds - self._logged[1]
        self._logged = (self.position.step, seconds)
        return round(steps * batch_size / max(since, 1e-9), 1)

    def _lap(self) -> float:
        now = time.monotonic()
        lap, self._mark = now - self._mark, now
        return lap


def _position(state: dict[str, Any]) -> Position:
    known = {entry.name for entry in fields(Position)}
    return Position(**{key: value for key, value in state["position"].items() if key in known})
