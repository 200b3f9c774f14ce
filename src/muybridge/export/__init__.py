"""A trained run as one ONNX file: written and checked, described in its metadata, and read again as a predictor."""

from muybridge.export.onnx_run import OnnxPredictor, OnnxRun, evaluate_file
from muybridge.export.quantize import Quantized, quantize_file
from muybridge.export.write import Exported, export_run

__all__ = ["Exported", "OnnxPredictor", "OnnxRun", "Quantized", "evaluate_file", "export_run", "quantize_file"]
