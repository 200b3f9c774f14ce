"""Optional packages that are missing name the extra that installs them."""

import json
import sys

import pytest

from muybridge.core.errors import MissingExtraError
from muybridge.core.extras import check_extra, import_extra


def test_what_is_installed_is_imported():
    assert import_extra("json", "flow", "tests") is json
    check_extra("flow", "json", "csv", purpose="tests")


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_what_is_missing_is_named_with_its_cure(name: str):
    message = r"^no_such_package is not installed\. .*for cameras.*pip install 'muybridge\[flow\]', or use a file"
    with pytest.raises(MissingExtraError, match=message):
        import_extra(name, "flow", "cameras", otherwise="use a file")


def test_all_packages_of_an_extra_are_checked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"^OpenCV is not installed"):
        check_extra("flow", "json", "cv2", purpose="tests")
