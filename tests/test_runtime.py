"""Devices and number formats: "auto" computes in bfloat16 where that pays; what is not there is refused in words."""

import warnings
from pathlib import Path

import pytest
import torch

from muybridge.core.errors import RunError
from muybridge.engine import runtime
from muybridge.engine.runtime import Runtime, computes_bfloat16, resolve_precision
from muybridge.recipe import Recipe

ZEN3 = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu sse2 avx avx2 fma avx512f vaes\n"
COOPER_LAKE = "flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 arch_capabilities\n"
GRAVITON3 = "BogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve bf16 i8mm\n"
GRAVITON2 = "Features\t: fp asimd evtstrm aes\n"


@pytest.mark.parametrize(
    ("text", "units"), [(ZEN3, False), (COOPER_LAKE, True), (GRAVITON3, True), (GRAVITON2, False), ("", False)]
)
def test_a_processor_with_bfloat16_is_recognized_by_its_instructions(
    text: str, units: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cpuinfo").write_text(text)
    flags = runtime._cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: flags)
    assert computes_bfloat16("cpu") is units
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_precision("auto", "cpu") == ("bf16-mixed" if units else "32-true")
    assert Runtime("auto", "cpu").precision == ("bf16-mixed" if units else "32-true")


def test_elsewhere_torch_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(runtime.platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert runtime._cpu_flags(tmp_path / "none") == {"avx512_bf16"}
    monkeypatch.setattr(runtime.platform, "machine", lambda: "arm64")  # those functions know x86 alone
    assert runtime._cpu_flags(tmp_path / "none") == set()


def test_bfloat16_is_not_chosen_where_it_makes_nothing_faster(tmp_path: Path):
    data = {"name": "msr_action3d", "root": str(tmp_path)}
    chosen = {
        name: Recipe.model_validate({"title": name, "model": {"name": name}, "data": data, "train": {}}).precision
        for name in ("drnn", "sta_lstm")
    }
    assert chosen == {"drnn": "32-true", "sta_lstm": "auto"}
    asked = {"title": "asked", "model": {"name": "drnn"}, "data": data, "train": {"precision": "bf16-mixed"}}
    assert Recipe.model_validate(asked).precision == "bf16-mixed"


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_is_asked_about_its_own_units(supported: bool, precision: str, monkeypatch: pytest.MonkeyPatch):
    def answer(*, including_emulation: bool) -> bool:
        assert not including_emulation
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert resolve_precision("auto", "cuda") == precision
    assert resolve_precision("auto", "mps") == "32-true"


def test_emulated_bfloat16_warns_with_its_factor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "computes_bfloat16", lambda _: False)
    with pytest.warns(
        UserWarning, match=r"this processor only emulates bfloat16, about 5\.7 times slower than float32"
    ):
        assert Runtime("bf16-mixed", "cpu").precision == "bf16-mixed"
    with pytest.warns(UserWarning, match=r"this GPU only emulates bfloat16; .*\"auto\" chooses float32"):
        assert resolve_precision("bf16-mixed", "cuda") == "bf16-mixed"


@pytest.mark.parametrize(("precision", "device"), [("16-mixed", "cpu"), ("64-true", "mps")])
def test_a_number_format_that_the_device_lacks(precision: str, device: str):
    with pytest.raises(
        RunError, match=rf'train.precision = "{precision}" is not available on {device}. Expected "auto"'
    ):
        resolve_precision(precision, device)  # pyright: ignore[reportArgumentType]


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=r"--device cuda, and PyTorch finds no GPU.*Use --device cpu"):
        Runtime(device="cuda")
