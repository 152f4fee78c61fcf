"""PyTorch packages: the graph itself, or machine code of it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from maskrcnn.errors import ExportError
from maskrcnn.exporting.traced import Traced, example_inputs
from maskrcnn.predict.exported.torch_export import DESCRIPTION


def write_torch_export(traced: Traced, path: Path) -> None:
    """The graph and the weights (`torch.export.save`), the description among the extra files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights in channels-last order, which it stores correctly
        torch.export.save(_without_folders(traced.program), path, extra_files={DESCRIPTION: traced.info.to_json()})


def write_aot_inductor(traced: Traced, path: Path) -> None:
    """Machine code of the graph for this kind of processor, weights included. Takes minutes.

    Raises:
        ExportError: no C++ compiler; the compiler fails.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.export.pt2_archive._package import package_pt2

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ExportError(
            f"{path}: compiling needs a C++ compiler; install one (Debian: apt install g++), or do without compiling"
        ) from error
    inputs = dict(example_inputs(traced.info, len(traced.info.model.image_mean)))
    # With its own choice of memory layouts, PyTorch 2.14 reads the input of a deconvolution in the wrong order where
    # the number of RoIs is known at run time only, and masks are wrong. The trunk is channels-last anyway.
    options = {"aot_inductor.package": True, "freezing": True, "layout_optimization": False}
    logger = logging.getLogger("torch._inductor")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            files: Any = torch._inductor.aot_compile(
                _without_folders(traced.program).module(), (), inputs, options=options
            )
    except Exception as error:  # the compiler's exceptions have no common base but this
        raise ExportError(f"{path}: cannot be compiled: {str(error).strip().splitlines()[0][:200]}") from error
    finally:
        logger.setLevel(level)
    package_pt2(path, aoti_files={"model": files}, extra_files={DESCRIPTION: traced.info.to_json()})


def _without_folders(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program, its nodes without the lines of source, and so without the folders, from which they came."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
