"""The package's version: the project's, in CMakeLists.txt. A test holds both together."""

__version__ = "0.1.0"
