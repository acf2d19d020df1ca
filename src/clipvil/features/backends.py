"""What runs an encoder over batches of pixels: torch, or a further CPU backend behind an extra.

A backend takes uint8 pictures and gives grids as they stand in the store: (B, h, w, C), in the store's dtype, on the
CPU. `start` only begins the work where the device allows it; calling what it returns waits for the result.
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.encoders.base import Encoded, Encoder
from clipvil.errors import EncoderError, UsageError
from clipvil.features.precision import LEAST_COSINE, Precision, apply, least_cosine
from clipvil.images.normalise import normalise

NAMES = ("torch", "openvino", "onnx")
Finish = Callable[[], Encoded]
_MOST_SHAPES = 4  # compiled programs kept by a backend that needs one for every canvas size


class Backend(ABC):
    """Runs one encoder in one precision; `device` is where."""

    name: str
    device: str

    @abstractmethod
    def start(self, pixels: Tensor) -> Finish:
        """Begin to encode uint8 pixels (B, 3, H, W); the result is called for grid and pooled, both on the CPU."""


def create_backend(
    name: str, encoder: Encoder, precision: Precision, *, device: str, dtype: torch.dtype, batch_size: int
) -> Backend:
    """The backend of this name. Raises UsageError for an unknown one, EncoderError where its extra is absent."""
    if name == "torch":
        return TorchBackend(encoder, precision, device=device, dtype=dtype)
    if name not in NAMES:
        raise UsageError(f"unknown backend '{name}'; known: {', '.join(NAMES)}")
    program = OpenvinoProgram if name == "openvino" else OnnxProgram
    return CompiledBackend(name, encoder, precision, program, dtype=dtype, batch_size=batch_size)


class TorchBackend(Backend):
    """The encoder as it is, in any precision, on the CPU or a CUDA device.

    On CUDA the pixels go through pinned memory and nothing waits before the result is called for, so that copying,
    computing and writing overlap.
    """

    name = "torch"

    def __init__(self, encoder: Encoder, precision: Precision, *, device: str, dtype: torch.dtype) -> None:
        self.device, self._dtype, self._channels_last = device, dtype, precision.channels_last
        self._encoder = apply(encoder, precision, device)

    @torch.inference_mode()
    def start(self, pixels: Tensor) -> Finish:
        """See Backend."""
        cuda = self.device.startswith("cuda")
        if cuda:
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        if self._channels_last:
            # Cheaper while a value is one byte; everything after it keeps the layout.
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        encoded = self._encoder.encode(normalise(pixels, self._encoder.preprocess))
        result = as_stored(encoded, self._dtype)
        if not cuda:
            return lambda: result
        return _leave_device(result)


def as_stored(encoded: Encoded, dtype: torch.dtype) -> Encoded:
    """Grid as (B, h, w, C) and pooled, both in the store's dtype and contiguous."""
    grid = encoded.grid.permute(0, 2, 3, 1).to(dtype).contiguous()
    return Encoded(grid, encoded.pooled.to(dtype).contiguous() if encoded.pooled is not None else None)


def _leave_device(result: Encoded) -> Finish:
    def pinned(tensor: Tensor) -> Tensor:
        target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return target.copy_(tensor, non_blocking=True)

    host = Encoded(pinned(result.grid), pinned(result.pooled) if result.pooled is not None else None)
    copied = torch.cuda.Event()
    copied.record()

    def finish() -> Encoded:
        copied.synchronize()
        return host

    return finish


class _Traced(nn.Module):
    """The encoder's network with outputs that every exporter can name: always two tensors."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.module, self._encoder = encoder.module, [encoder]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self._encoder[0].encode(pixels)
        pooled = encoded.pooled if encoded.pooled is not None else encoded.grid.flatten(1)[:, :1]
        return encoded.grid, pooled


class CompiledBackend(Backend):
    """A backend that compiles one program for every canvas size, so it goes with policies of one size.

    Every program must agree with torch in fp32 on its first batch (cosine above 0.9995); a last, smaller batch is
    filled up, since the program's batch size is fixed. Raises EncoderError where it does not agree or cannot convert.
    """

    device = "cpu"

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        precision: Precision,
        program: Callable[[nn.Module, Tensor, Precision], Callable[[Tensor], tuple[Tensor, Tensor]]],
        *,
        dtype: torch.dtype,
        batch_size: int,
    ) -> None:
        self.name, self._precision, self._program = name, precision, program
        self._encoder = encoder.to(device="cpu", dtype=torch.float32, channels_last=False)
        self._dtype, self.batch_size = dtype, batch_size
        self._compiled: dict[tuple[int, ...], Callable[[Tensor], tuple[Tensor, Tensor]]] = {}
        self.cosine = 1.0
        """The lowest cosine to torch in fp32 that any program's first batch showed."""

    @torch.inference_mode()
    def start(self, pixels: Tensor) -> Finish:
        """See Backend."""
        count = len(pixels)
        batch = normalise(pixels, self._encoder.preprocess)
        if count < self.batch_size:
            batch = torch.cat([batch, batch[:1].expand(self.batch_size - count, -1, -1, -1)])
        result = as_stored(self._run(batch, count), self._dtype)
        return lambda: result

    def _run(self, batch: Tensor, count: int) -> Encoded:
        shape = tuple(batch.shape[2:])
        fresh = shape not in self._compiled
        if fresh:
            self._compiled[shape] = self._compile(batch)
        grid, pooled = self._compiled[shape](batch)
        result = Encoded(grid[:count], pooled[:count] if self._encoder.pooled_channels else None)
        if fresh:
            agreement = least_cosine(result, self._encoder.encode(batch[:count]))
            self.cosine = min(self.cosine, agreement)
            if agreement <= LEAST_COSINE:
                raise EncoderError(
                    f"{self._encoder.name} through {self.name} differs from torch (cosine {agreement:.6f}, at least "
                    f"{LEAST_COSINE} is needed); use --backend torch"
                )
        return result

    def _compile(self, batch: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        if len(self._compiled) == _MOST_SHAPES:
            raise EncoderError(
                f"backend {self.name} compiles a program for every canvas size, and these pictures have more than "
                f"{_MOST_SHAPES}; use --resize square or warp:HxW, or --backend torch"
            )
        try:
            # The exporters record real autograd semantics, which tensors of inference mode lack.
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._program(_Traced(self._encoder).eval(), torch.zeros(batch.shape), self._precision)
        except ImportError as error:
            raise EncoderError(
                f"backend {self.name} needs packages that are not installed ({error}); "
                f'pip install "clipvil[{self.name}]"'
            ) from error
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise EncoderError(f"{self._encoder.name} cannot be converted for {self.name}: {reason}") from error


class OpenvinoProgram:
    """A network compiled by OpenVINO for the CPU, from the exported torch module."""

    def __init__(self, module: nn.Module, batch: Tensor, precision: Precision) -> None:
        # Importing openvino reports the import to a server of its maker unless this part of it cannot be found.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        openvino: Any = importlib.import_module("openvino")
        model = openvino.convert_model(torch.export.export(module, (batch,)))
        hint = {"fp32": "f32", "bf16": "bf16"}[precision.kind]
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        self._program = openvino.Core().compile_model(model, "CPU", settings)

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Grid and pooled of one batch of the compiled size."""
        outputs = self._program([batch.numpy()])
        return torch.from_numpy(outputs[0].copy()).float(), torch.from_numpy(outputs[1].copy()).float()


class OnnxProgram:
    """A network exported to ONNX, run by ONNX Runtime on the CPU."""

    def __init__(self, module: nn.Module, batch: Tensor, precision: Precision) -> None:
        runtime: Any = importlib.import_module("onnxruntime")
        importlib.import_module("onnxscript")
        if precision.kind != "fp32":
            raise ValueError(f"ONNX Runtime is used in fp32 only, not {precision.kind}")
        exported: Any = torch.onnx.export(module, (batch,), dynamo=True, verbose=False)
        stream = io.BytesIO()
        exported.save(stream)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = runtime.InferenceSession(stream.getvalue(), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Grid and pooled of one batch of the exported size."""
        grid, pooled = self._session.run(None, {self._input: batch.numpy()})
        return torch.from_numpy(grid), torch.from_numpy(pooled)
