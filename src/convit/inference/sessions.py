"""The runtimes that compute an exported file: ONNX Runtime, OpenVINO, ExecuTorch, LiteRT, and PyTorch for its own."""

# ExecuTorch, LiteRT and Core ML are installed apart
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

Session = Callable[[np.ndarray, Sequence[str]], Sequence[Any]]


def start_session(
    file: Path,
    format: str,  # noqa: A002
    precision: str,
    images: str,
    outputs: Sequence[str],
    threads: int | None = None,
) -> Session:
    """Load a model file that `convit export` wrote in its runtime, on the CPU.

    `images` is the name of its input, `outputs` are those of all outputs, in their order. It computes with `threads`;
    None: what OMP_NUM_THREADS says, as in PyTorch, else the runtime's own choice. PyTorch's own formats take PyTorch's.

    Returns:
        A function of images and the names of wanted outputs that gives these as arrays; threads may share it.

    Raises:
        ValueError: nothing here runs this format, or its runtime cannot load the file.
        ImportError: its runtime is not installed.
    """
    if format not in _STARTS:
        raise ValueError(
            f"{file} is a file for {format}, which convit does not run (the README.md beside it says what does); "
            f"export to {', '.join(_STARTS)}"
        )
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = threads or (int(given) if given.isdigit() else 0)
    try:
        session = _STARTS[format](file, precision, images, outputs, threads)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ImportError(f"{file} needs the package {package}; pip install {package.replace('_', '-')}") from error
    except Exception as error:  # each runtime has its own kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be loaded ({reason}); export again, or update its runtime") from error

    turn = nullcontext() if format in _SHARED else threading.Lock()

    def run(batch: np.ndarray, names: Sequence[str]) -> Sequence[Any]:
        try:
            with turn:
                return session(batch, names)
        except MemoryError:
            raise
        except Exception as error:  # again each its own, where config.json does not tell the truth
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{file} cannot compute {batch.dtype} images of shape {batch.shape}, which config.json lets it take "
                f"({reason}); export again"
            ) from error

    return run


def _start_onnx(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised too
    options.intra_op_num_threads = threads
    # threads that wait by spinning take the cores from those that read images: a third of the speed on two cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    _give_memory_back()
    _check_names([each.name for each in session.get_inputs()], images)
    _check_names([each.name for each in session.get_outputs()], *outputs)
    return lambda batch, names: session.run(names, {images: batch})


def _give_memory_back() -> None:
    """Return to the system what loading a file has left free in the heap, of which it would keep some megabytes."""
    with suppress(ImportError, AttributeError, OSError, TypeError):  # another C library than glibc
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def _start_openvino(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    import openvino

    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision != "int8":  # whose other layers are OpenVINO's to choose
        config["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
    compiled = openvino.Core().compile_model(str(file), "CPU", config)
    _check_names([name for port in compiled.inputs for name in port.names], images)
    _check_names([name for port in compiled.outputs for name in port.names], *outputs)
    request = compiled.create_infer_request()

    def run(batch: np.ndarray, names: Sequence[str]) -> Sequence[Any]:
        request.infer({images: batch})
        return [request.get_tensor(name).data.copy() for name in names]

    return run


def _start_program(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    import torch

    return _run_program(torch.export.load(file).module(), outputs)


def _start_package(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    from torch._inductor import aoti_load_package

    return _run_program(aoti_load_package(str(file)), outputs)


def _start_executorch(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    from convit.output.console import silenced

    with silenced():  # it logs what it finds of the processor
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(file)
        method = program.load_method("forward")
    return _run_program(lambda batch: method.execute([batch]), outputs)


def _start_litert(file: Path, precision: str, images: str, outputs: Sequence[str], threads: int) -> Session:
    from convit.output.console import silenced

    with silenced():  # it logs what it computes with
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(file), num_threads=threads or None)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    places = {name: f"output_{number}" for number, name in enumerate(outputs)}
    _check_names([*runner.get_input_details()], images)

    def run(batch: np.ndarray, names: Sequence[str]) -> Sequence[Any]:
        found = runner(**{images: batch})
        return [found[places[name]] for name in names]

    return run


def _run_program(program: Callable[..., Any], outputs: Sequence[str]) -> Session:
    """Outputs have no names in PyTorch's programs, only an order."""
    import torch

    @torch.inference_mode()
    def run(batch: np.ndarray, names: Sequence[str]) -> Sequence[Any]:
        found = program(torch.from_numpy(batch))
        by_name = dict(zip(outputs, [found] if isinstance(found, torch.Tensor) else found, strict=True))
        return [by_name[name].float().numpy() for name in names]

    return run


_STARTS: dict[str, Callable[[Path, str, str, Sequence[str], int], Session]] = {
    "onnx": _start_onnx,
    "openvino": _start_openvino,
    "pt2": _start_program,
    "aotinductor": _start_package,
    "executorch": _start_executorch,
    "litert": _start_litert,
}
_SHARED = ("onnx", "pt2", "aotinductor")  # several threads may compute at once; with the others, one after the other


def _check_names(found: Iterable[str], *named: str) -> None:
    if missing := set(named) - set(found):
        raise ValueError(f"it has {', '.join(found)}, but config.json names {', '.join(missing)}")
