"""What pyproject.toml cannot say: one wheel for every Python 3, and for this machine alone, since it bundles C libraries."""
import pathlib
import sys

from setuptools import setup
from setuptools.dist import Distribution
from wheel.bdist_wheel import bdist_wheel


class Bundled(Distribution):
    def has_ext_modules(self):
        return True


class OfThisPlatform(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


if not list(pathlib.Path(__file__).parent.glob("cutwire/_libs/*.so")):
    sys.exit("cutwire: the libraries are not here: run `make python` in the checkout, and install build/python")
setup(distclass=Bundled, cmdclass={"bdist_wheel": OfThisPlatform})
