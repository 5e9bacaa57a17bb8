"""The encoder: an ONNX graph from crops to embeddings, run by ONNX Runtime.

On one device and one ONNX Runtime version, equal crops in an equal batch give equal bits. Across batch sizes or
devices a library may choose other kernels: values then agree to float32 rounding. The pipeline therefore embeds
one region at a time.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleDamaged, DeviceUnavailable

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Embeddings: TypeAlias = NDArray[np.float32]

INPUT: Final = "crops"
OUTPUT: Final = "embedding"
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
CUDA_OPTIONS: Final = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
ERRORS_ONLY: Final = 3  # ONNX Runtime's log severity


class Encoder:
    """An encoder file, ready to run; the session is built on first use, in the process that uses it.

    Args:
        path: the .onnx file, input `crops` float32 [N, C, D, H, W], output `embedding` float32 [N, dimension].
        dimension: length of an embedding.
        device: "cuda" fails where there is none; "auto" takes it where there is one.
        threads: threads of one run on the CPU.
    """

    def __init__(self, path: Path, dimension: int, device: Device = "auto", threads: int = 1) -> None:
        self.path = path
        self.dimension = dimension
        self.device = device
        self.threads = threads

    def embed(self, crops: NDArray[np.float32]) -> Embeddings:
        """Embed crops.

        Args:
            crops: float32 [N, C, D, H, W], N at least 1, in [-1, 1].

        Returns:
            float32 [N, dimension].

        Raises:
            ValueError: the crops are not float32, or not of the shape the graph declares.
            BundleDamaged: the file is no usable graph, or what comes out is not [N, dimension] finite numbers.
            DeviceUnavailable: `device` is "cuda" and ONNX Runtime does not run there.
        """
        self._check_crops(crops)
        (embedding,) = self._session.run([OUTPUT], {INPUT: crops})
        if embedding.shape != (len(crops), self.dimension):
            raise self._damaged(f"gave {list(embedding.shape)}, expected {[len(crops), self.dimension]}")
        if not np.isfinite(embedding).all():
            raise self._damaged("gave NaN or infinite values on finite crops")
        result: Embeddings = embedding
        return result

    @property
    def provider(self) -> str:
        """The execution provider really in use."""
        provider: str = self._session.get_providers()[0]
        return provider

    @property
    def runtime_version(self) -> str:
        """ONNX Runtime's version."""
        import onnxruntime as ort  # noqa: PLC0415 - the worker's parent process must never load it

        release: str = ort.__version__
        return release

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as ort  # noqa: PLC0415 - the worker's parent process must never load it

        session = self._open(ort)
        if self.device == "cuda" and session.get_providers()[0] != CUDA:
            raise DeviceUnavailable(f"device cuda was asked for, ONNX Runtime {ort.__version__} runs on {CPU} instead")
        self._check_signature(session)
        return session

    def _open(self, ort: Any) -> Any:
        failures = ort.capi.onnxruntime_pybind11_state
        try:
            return ort.InferenceSession(
                self.path.read_bytes(), sess_options=self._options(ort), providers=self._providers(ort)
            )
        except OSError as error:
            raise self._damaged(f"cannot be read ({error.strerror})") from error
        except (
            failures.Fail,
            failures.InvalidArgument,
            failures.InvalidGraph,
            failures.InvalidProtobuf,
            failures.NotImplemented,
            failures.RuntimeException,
        ) as error:
            raise self._damaged(f"is not an ONNX graph that ONNX Runtime {ort.__version__} can run: {error}") from error

    def _options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights outside the file would escape the bundle's digests: let them be looked for where nothing can be.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        return options

    def _providers(self, ort: Any) -> list[Any]:
        if self.device == "cpu":
            return [CPU]
        if CUDA not in ort.get_available_providers():
            if self.device == "cuda":
                raise DeviceUnavailable(
                    f"device cuda was asked for, but this ONNX Runtime {ort.__version__} has no CUDA"
                )
            return [CPU]
        ort.preload_dlls()
        return [(CUDA, CUDA_OPTIONS), CPU]

    def _check_signature(self, session: Any) -> None:
        inputs = [(value.name, value.type, len(value.shape)) for value in session.get_inputs()]
        outputs = [(value.name, value.type) for value in session.get_outputs()]
        if inputs != [(INPUT, "tensor(float)", 5)] or (OUTPUT, "tensor(float)") not in outputs:
            raise self._damaged(
                f"takes {inputs} and gives {outputs}, expected float {INPUT} [N, C, D, H, W] and {OUTPUT}"
            )

    def _check_crops(self, crops: NDArray[Any]) -> None:
        declared = self._session.get_inputs()[0].shape
        fits = crops.ndim == len(declared) and all(
            not isinstance(want, int) or want == got for want, got in zip(declared, crops.shape, strict=True)
        )
        if crops.dtype != np.float32 or not fits or crops.size == 0:
            raise ValueError(f"crops of {crops.dtype} {list(crops.shape)}, expected float32 {declared}")

    def _damaged(self, reason: str) -> BundleDamaged:
        return BundleDamaged(f"bundle {self.path.parent.name}: {self.path.name} {reason}")
